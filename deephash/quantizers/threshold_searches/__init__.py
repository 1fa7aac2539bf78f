"""Searches for the thresholds of one dimension: one file per way to maximise the objective of NPQ and VBQ."""
