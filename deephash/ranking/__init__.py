"""Exact Hamming, Manhattan and asymmetric ranking: distance counts and nearest neighbours."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.ranking.base import RankingEngine as RankingEngine

__getattr__, __dir__ = exports(__name__)
