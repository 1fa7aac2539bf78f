"""Neighbours within a radius: the ε-ball truth of unsupervised hashing and of the quantisation papers."""

import math
from typing import Self

import numpy as np
import torch
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.affinity.euclidean import as_array, check_distances, find_nearest, find_within_radius
from deephash.affinity.supervision import AmongItems
from deephash.data.protocols.draws import random_order
from deephash.ranking.relevance import Neighbours
from deephash.validation import InvalidInputError, NotFittedError, as_features, check_choice, check_count

# Maximum number of neighbours over all queries; their ids need 4 GB.
MAXIMUM_IDS = 500_000_000
PARTS = {"train": "training", "database": "database"}


def neighbour_rank(neighbours: int, n: int, items: int) -> float:
    """Return the rank among n items that corresponds to rank `neighbours` among more items.

    The fraction of items nearer than the j-th of n neighbours has a median near (j - 1/2) / n. In many dimensions,
    the fraction within that neighbour's mean distance is also near this value.

    Args:
        neighbours: rank among all items, from 1.
        n: number of available items.
        items: number of all items.

    Returns:
        A rank of at least 1/2; below 1, the distance is shorter than that of the first of the n neighbours.
    """
    return (neighbours - 0.5) * n / items + 0.5


class EpsilonBall(Affinity):
    """Neighbours = items within a radius, the mean distance from a training item to its 50th nearest neighbour.

    The radius of Raginsky & Lazebnik (NIPS 2009) and Gong & Lazebnik (CVPR 2011), also used by Kong, Li & Guo (SIGIR
    2012) and by Moran, Lavrenko & Osborne (SIGIR 2013). Neighbours are searched within one part only, so the radius
    decreases as that part grows; compare only figures from parts of equal size. A radius computed in the 2,000 training
    items of the five-way split is wide: a query has thousands of neighbours in the database. The papers compute the
    radius in the whole set (`among="database"`), so that a query has hundreds. No labels are used.

    With `among="database"`, training pairs depend on the database only by its size. The 50th neighbour among N items is
    about as far away as the (50 n / N)-th among n, so methods are fitted from pairs within this estimate in the
    training part. On CIFAR-10, with 2,000 training items and a database of 46,000, the estimate exceeds the radius of
    the truth by .5 %; the distance of the 50th neighbour in the training part exceeds the radius of the truth by 13 %.
    Balls of the estimated radius contain few pairs. Methods that need many pairs use the distance of the 50th neighbour
    in the training part (see `TrainingAffinity.wide`), as do all methods with `supervision=epsilon_ball`.

    A pair is within the radius if its squared distance in float64 is at most radius²; see `euclidean`.

    Args:
        neighbours: rank of the neighbour whose distance is averaged; 50 in the papers.
        sample: number of items over which the distance is averaged, at most all; with 1,000 items, the sampling error
            of the radius is about 1 %.
        seed: seed of the sample.
        among: "train" or "database", the part in which the radius is computed.

    Raises:
        InvalidInputError: neighbours or sample is not an integer of at least 1, or an unknown part.
    """

    def __init__(self, neighbours: int = 50, sample: int = 1000, seed: int = 0, among: str = "train") -> None:
        for value, name in ((neighbours, "neighbours"), (sample, "sample")):
            check_count(value, f"truth.{name}")
        self.neighbours = neighbours
        self.sample = sample
        check_choice(among, PARTS, "truth.among")
        self.seed = seed
        self.among = among
        self.learns_from = among
        self.radius: float | None = None
        # Number of items among which the radius was computed.
        self.items: int | None = None

    def fit(self, features: Tensor, labels: Tensor | None) -> Self:
        """Set the radius from the items of one part; labels are ignored.

        Args:
            features: (n, d), of more than `neighbours` items.
            labels: not used.

        Raises:
            InvalidInputError: invalid features, or too few.
        """
        features = as_features(features, name="training features")
        check_distances(features, "training features")
        if len(features) <= self.neighbours:
            raise InvalidInputError(
                f"truth.neighbours={self.neighbours} needs a {PARTS[self.among]} part of more than {self.neighbours} "
                f"items, but it has {len(features)}; lower truth.neighbours or raise protocol.{self.among}."
            )
        self.items = len(features)
        self.radius = self._compute_mean_distance(features, self.neighbours)
        return self

    def supervise(self, features: Tensor, labels: Tensor | None, positions: Tensor | None = None) -> AmongItems:
        """Return neighbours among training items within a radius computed from these items; other parts are not used.

        If the radius of the truth was computed in a larger database, the training items serve to estimate it, and the
        affinity's `wide` uses the radius of the training part.
        """
        if self.among == "train":
            return AmongItems(self, features, labels)
        features = as_features(features, name="training features")
        wide = self._build_ball().fit(features, labels)
        if self.items is None or self.items <= len(features):
            return AmongItems(wide, features, labels)
        estimated = self._build_ball()
        estimated.radius = self._estimate_radius(features, self.items)
        return AmongItems(estimated, features, labels, wider=wide)

    def _build_ball(self) -> Self:
        return type(self)(self.neighbours, self.sample, self.seed)

    def _compute_mean_distance(self, features: Tensor, rank: int) -> float:
        """Return the mean distance from sampled items to their neighbour of this rank, not counting themselves."""
        array = as_array(features)
        sampled = random_order(len(array), self.seed)[: self.sample]
        # An item is its own nearest neighbour at distance 0, so the rank increases by one.
        _, squared = find_nearest(array[sampled], array, rank + 1, description="Radius of the ε-ball")
        return float(np.sqrt(squared).mean())

    def _estimate_radius(self, features: Tensor, items: int) -> float:
        """Estimate the radius among `items` items from the features (n, d) of a sample of n < items of them."""
        rank = neighbour_rank(self.neighbours, len(features), items)
        below = max(1, math.floor(rank))
        nearer = self._compute_mean_distance(features, below)
        if rank >= 1:
            return nearer + (rank - below) * (self._compute_mean_distance(features, below + 1) - nearer)
        if nearer == 0 or len(features) <= 2:
            return nearer
        # Below rank 1, extrapolate: the distance is a power of the fraction of items within it.
        far = max(2, self.neighbours)
        power = math.log(self._compute_mean_distance(features, far) / nearer) / math.log((far - 0.5) / 0.5)
        return nearer * math.pow((rank - 0.5) / 0.5, power)

    def relevance(
        self,
        query_features: Tensor,
        query_labels: Tensor | None,
        database_features: Tensor,
        database_labels: Tensor | None,
    ) -> Neighbours:
        """Return the database items within the radius of each query.

        The CPU computes them; the result is on the device of the queries.

        Raises:
            NotFittedError: before `fit`.
            InvalidInputError: invalid features, or too many neighbours for memory.
        """
        if self.radius is None:
            raise NotFittedError("EpsilonBall has no radius yet; call fit with the training part first.")
        query_features = as_features(query_features, name="query features")
        database_features = as_features(database_features, query_features.shape[1], 1, "database features")
        check_distances(query_features, "query features")
        check_distances(database_features, "database features")
        query, database = as_array(query_features), as_array(database_features)
        counts, ids, total = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        for block_counts, block_ids in find_within_radius(query, database, self.radius):
            counts.append(block_counts)
            ids.append(block_ids)
            total += len(block_ids)
            if total > MAXIMUM_IDS:
                done = sum(map(len, counts))
                raise InvalidInputError(
                    f"The ε-ball of radius {self.radius:.4g} contains {total / done / len(database):.0%} of the "
                    f"database on average, more than {MAXIMUM_IDS:,} neighbours in total; lower truth.neighbours, "
                    "raise protocol.train, or lower protocol.queries."
                )
        offsets = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
        device = query_features.device
        return Neighbours(
            torch.from_numpy(offsets).to(device), torch.from_numpy(np.concatenate(ids)).to(device), len(database)
        )
