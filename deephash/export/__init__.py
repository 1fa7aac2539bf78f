"""A hasher as a program that runs without deephash, from features to packed codes."""
