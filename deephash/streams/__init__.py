"""Streams: which items of a data set arrive when, and what they look like by then."""
