"""Policies of re-encoding: which codes of a database are made anew while the projection moves."""
