"""Files: run folders, configuration and progress, read and written whole or not at all."""
