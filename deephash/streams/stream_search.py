"""What can be searched while a method learns: codes of all ages, the function in use, and maps to those before it."""

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
from deephash.streams.reencoding.compatible import chained, mapped, projection_map

# Stored items from which a map between the projections of two functions is learnt.
MAP_ITEMS = 2000


class StreamSearch:
    """Codes in a database, and the hasher that makes and asks them now.

    Args:
        hasher: the function in use.
        database: the codes and what they were made of.
        ranking: the engine that ranks codes.
        maps_queries: whether codes stay in the space of the function that made them, and queries are mapped there.
    """

    def __init__(self, hasher: Hasher, database: StreamDatabase, ranking: RankingEngine, maps_queries: bool) -> None:
        self.hasher = hasher
        self.database = database
        self.ranking = ranking
        self.maps_queries = maps_queries
        self.current_version = 0
        self.maps: dict[int, Tensor] = {}

    def publish(self, hasher: Hasher) -> None:
        """Put another function to use; all codes so far are stale.

        Args:
            hasher: the function. Where queries are mapped it is copied, so that it may go on learning.
        """
        if self.maps_queries:
            before, hasher = self.hasher, copy.deepcopy(hasher)
            if self.current_version:
                sample = self.database.features[:MAP_ITEMS]
                step = projection_map(hasher.project(sample), before.project(sample))
                self.maps = {number: chained(step, older) for number, older in self.maps.items()}
                self.maps[self.current_version] = step
        self.hasher = hasher
        self.current_version += 1

    def add(self, features: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """Encode items and take them in.

        Args:
            features: floating (n, d).
            labels: int64 (n,) or bool (n, c).
            generator: CPU generator of which items stay, once the database is full.
        """
        self.database.add(features, labels, self.hasher.encode(features), self.current_version, generator)

    def reencode(self, places: Tensor) -> int:
        """Re-encode codes by the function in use.

        Args:
            places: int64 (m,), of the database.

        Returns:
            The number of bits that changed.
        """
        codes, bits = self.hasher.encode(self.database.features[places]), self.hasher.distance.code_bits
        flipped = int((unpack(codes, bits) != unpack(self.database.codes[places], bits)).sum())
        self.database.replace(places, codes, self.current_version)
        alive = set(torch.unique(self.database.code_versions).tolist())
        self.maps = {number: older for number, older in self.maps.items() if number in alive}
        return flipped

    def precision(self, features: Tensor, labels: Tensor, neighbours: int) -> Tensor:
        """Precision of the nearest items that each item finds; where queries are mapped, of codes of this function.

        Args:
            features: floating (n, d).
            labels: int64 (n,) or bool (n, c).
            neighbours: how many nearest.

        Returns:
            float64 (n,); (0,) where there are fewer codes.
        """
        searched = torch.arange(len(self.database))
        if self.maps_queries:
            searched = torch.nonzero(self.database.code_versions == self.current_version).flatten()
        if len(searched) < neighbours:
            return torch.empty(0, dtype=torch.float64)
        codes, distance = self.hasher.encode(features), self.hasher.distance
        _, nearest = self.ranking.search(codes, self.database.codes[searched], distance, neighbours)
        return is_relevant(self._relevance(labels, searched), nearest).double().mean(1)

    def counts(self, features: Tensor, labels: Tensor) -> DistanceCounts:
        """What lies at each distance from each query, in all spaces together.

        Args:
            features: of the queries, floating (q, d).
            labels: int64 (q,) or bool (q, c).
        """
        projections = self.hasher.project(features)
        parts = []
        for number in (
            torch.unique(self.database.code_versions).tolist() if self.maps_queries else [self.current_version]
        ):
            inside = self.database.code_versions == number if self.maps_queries else slice(None)
            own = projections if number == self.current_version else mapped(projections, self.maps[number])
            codes = pack(self.hasher.quantizer.quantize(own))
            relevance = self._relevance(labels, inside)
            parts.append(self.ranking.rank(codes, self.database.codes[inside], self.hasher.distance, relevance))
        return reduce(DistanceCounts.__add__, parts)

    def state(self) -> dict[str, Any]:
        """All but the hasher."""
        return {"database": self.database.state(), "function": self.current_version, "maps": self.maps}

    def restore(self, state: dict[str, Any], hasher: Hasher) -> None:
        """Take up what `state` gave.

        Args:
            state: as given.
            hasher: the function that was in use.
        """
        self.database.restore(state["database"])
        self.current_version, self.maps, self.hasher = state["function"], state["maps"], hasher

    def _relevance(self, labels: Tensor, searched: Tensor | slice) -> SharedLabel | SharedLabels:
        assert self.database.labels is not None
        kind = SharedLabel if labels.ndim == 1 else SharedLabels
        return kind(labels, self.database.labels[searched])
