"""Run folders, configuration, progress, and files that are written whole or not at all."""
