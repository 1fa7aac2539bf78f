"""Encoders: what comes before the projection, from features to other features."""
