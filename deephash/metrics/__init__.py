"""Retrieval metrics, computed exactly from distance counts."""
