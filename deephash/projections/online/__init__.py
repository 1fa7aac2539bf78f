"""Projections that learn from a stream, batch by batch."""
