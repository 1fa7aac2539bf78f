"""Projections of two views into one code space, learnt together from pairs: one file per published method."""
