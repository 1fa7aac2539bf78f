"""Exact Hamming, Manhattan and asymmetric ranking: distance counts and nearest neighbours."""
