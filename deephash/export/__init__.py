"""Export of a hasher as a program from features to packed codes that runs without deephash."""
