"""Mathematics that several methods share, each file named by its thing."""
