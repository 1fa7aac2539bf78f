"""Indexes of packed codes: what searches a database without a ranking of all of it."""
