"""Scoring: from codes and truth to figures, and the report of them."""
