"""Mathematics shared by several methods, one topic per file."""
