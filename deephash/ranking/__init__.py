"""Exact Hamming, Manhattan and asymmetric ranking: distance counts and nearest neighbours."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
