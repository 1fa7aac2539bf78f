"""Data sets as Lightning data modules, and the descriptors that turn images into features."""
