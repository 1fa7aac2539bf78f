"""Descriptors: what turns images into feature vectors, one file each."""
