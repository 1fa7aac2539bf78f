"""Search while a method learns: codes of several versions, the current hasher, and maps between versions."""

import copy
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from deephash.codes import pack, unpack
from deephash.hashers.hasher import Hasher
from deephash.ranking.base import RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.relevance import SharedLabel, SharedLabels, is_relevant
from deephash.streams.database import StreamDatabase
from deephash.streams.reencoding.compatible import chain_maps, fit_map, map_projections

# Number of stored items used to fit a map between the projections of two versions.
MAP_ITEMS = 2000


class StreamSearch:
    """Codes in a database and the current hasher.

    Args:
        hasher: the current hasher.
        database: items with codes.
        ranking: ranking engine.
        maps_queries: whether queries are mapped into the space of each version, so that codes can stay.
    """

    def __init__(self, hasher: Hasher, database: StreamDatabase, ranking: RankingEngine, maps_queries: bool) -> None:
        self.hasher = hasher
        self.database = database
        self.ranking = ranking
        self.maps_queries = maps_queries
        self.current_version = 0
        self.maps: dict[int, Tensor] = {}

    def publish(self, hasher: Hasher) -> None:
        """Make a hasher the current one, so that all earlier codes are stale.

        Args:
            hasher: the new hasher. It is copied if queries are mapped, so that it can continue to learn.
        """
        if self.maps_queries:
            previous, hasher = self.hasher, copy.deepcopy(hasher)
            if self.current_version:
                sample = self.database.features[self.database.learnable][:MAP_ITEMS]
                step = fit_map(hasher.project(sample), previous.project(sample))
                self.maps = {number: chain_maps(step, older) for number, older in self.maps.items()}
                self.maps[self.current_version] = step
        self.hasher = hasher
        self.current_version += 1

    def add(self, features: Tensor, labels: Tensor, learnable: Tensor, generator: torch.Generator) -> None:
        """Encode items by the current hasher and add them, without codes if no hasher was published yet.

        Args:
            features: floating (n, d).
            labels: int64 (n,) or bool (n, c).
            learnable: bool (n,), whether a method may learn from each item.
            generator: CPU generator of the sample, used once the database is full.
        """
        codes = self.database.codes.new_zeros(len(features), self.database.codes.shape[1])
        if self.current_version:
            codes = self.hasher.encode(features)
        self.database.add(features, labels, learnable, codes, self.current_version, generator)

    def reencode(self, places: Tensor) -> int:
        """Re-encode items with the current hasher.

        Args:
            places: int64 (m,), places in the database.

        Returns:
            The number of bits that changed.
        """
        codes, bits = self.hasher.encode(self.database.features[places]), self.hasher.distance.code_bits
        flipped = int((unpack(codes, bits) != unpack(self.database.codes[places], bits)).sum())
        self.database.replace(places, codes, self.current_version)
        versions = set(torch.unique(self.database.code_versions).tolist())
        self.maps = {version: to_older for version, to_older in self.maps.items() if version in versions}
        return flipped

    def precision(self, features: Tensor, labels: Tensor, neighbours: int) -> Tensor:
        """Return the precision of the nearest items of each item.

        Only items that a method may learn from are searched and, if queries are mapped, only current codes.

        Args:
            features: floating (n, d).
            labels: int64 (n,) or bool (n, c).
            neighbours: number of nearest items.

        Returns:
            float64 (n,); (0,) if fewer than `neighbours` codes are searched.
        """
        versions = self.database.code_versions
        is_searched = self.database.learnable & (versions > 0)
        if self.maps_queries:
            is_searched &= versions == self.current_version
        searched = torch.nonzero(is_searched).flatten()
        if len(searched) < neighbours:
            return torch.empty(0, dtype=torch.float64)
        codes, distance = self.hasher.encode(features), self.hasher.distance
        _, nearest = self.ranking.search(codes, self.database.codes[searched], distance, neighbours)
        return is_relevant(self._find_relevance(labels, searched), nearest).double().mean(1)

    def counts(self, features: Tensor, labels: Tensor, places: Tensor) -> DistanceCounts:
        """Count items and relevant items at each distance from each query, over all versions together.

        Args:
            features: features of the queries, floating (q, d).
            labels: int64 (q,) or bool (q, c).
            places: int64 (m,), m >= 1, the items with codes that are ranked.
        """
        projections = self.hasher.project(features)
        parts = []
        versions = self.database.code_versions[places]
        for version in torch.unique(versions).tolist() if self.maps_queries else [self.current_version]:
            ranked = places[versions == version] if self.maps_queries else places
            is_current = version == self.current_version
            queries = projections if is_current else map_projections(projections, self.maps[version])
            codes = pack(self.hasher.quantizer.quantize(queries))
            relevance = self._find_relevance(labels, ranked)
            parts.append(self.ranking.rank(codes, self.database.codes[ranked], self.hasher.distance, relevance))
        return reduce(DistanceCounts.__add__, parts)

    def state(self) -> dict[str, Any]:
        """Return the state without the hasher."""
        return {"database": self.database.state(), "function": self.current_version, "maps": self.maps}

    def restore(self, state: dict[str, Any], hasher: Hasher) -> None:
        """Restore a state.

        Args:
            state: as returned by `state`.
            hasher: the current hasher at that time.
        """
        self.database.restore(state["database"])
        self.current_version, self.maps, self.hasher = state["function"], state["maps"], hasher

    def _find_relevance(self, labels: Tensor, searched: Tensor) -> SharedLabel | SharedLabels:
        assert self.database.labels is not None
        kind = SharedLabel if labels.ndim == 1 else SharedLabels
        return kind(labels, self.database.labels[searched])
