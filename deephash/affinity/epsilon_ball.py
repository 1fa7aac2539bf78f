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

# Neighbours whose ids are held, 4 GB; a radius with more neighbours is too large.
MAXIMUM_IDS = 500_000_000
PARTS = {"train": "training", "database": "database"}


def neighbour_rank(neighbours: int, n: int, items: int) -> float:
    """Return the rank among n items that corresponds to rank `neighbours` among more items.

    The share of items nearer than the j-th of n neighbours has a median near (j - 1/2) / n. In many dimensions, the
    mean distance of that neighbour corresponds to the same share.

    Args:
        neighbours: rank among all items, from 1.
        n: number of available items.
        items: number of all items.

    Returns:
        The rank, at least 1/2; below 1 if the neighbour is nearer than the first of n.
    """
    return (neighbours - 0.5) * n / items + 0.5


class EpsilonBall(Affinity):
    """Neighbours = items within a radius, the mean distance from a training item to its 50th nearest neighbour.

    The radius is that of Raginsky & Lazebnik (NIPS 2009) and Gong & Lazebnik (CVPR 2011), also used by Kong, Li & Guo
    (SIGIR 2012) and by Moran, Lavrenko & Osborne (SIGIR 2013). Neighbours are searched within one part only, so the
    radius falls as that part grows; only compare figures if these parts have the same size. With the training part of
    the five-way split, 2,000 items, the ball is wide: a query has thousands of neighbours in the database. The papers'
    figures use balls within the whole set (`among="database"`), with hundreds of neighbours. That radius is a single
    number, learnt without labels.

    Pairs for training use only the size of the database. The 50th neighbour among N items is about as far away as the
    (50 n / N)-th among n, so methods are fitted from pairs within that distance, measured in the training part. With
    2,000 of 46,000 items of CIFAR-10 it is .5 % above the radius of the truth, while the distance of the 50th neighbour
    is 13 % above. Such balls contain few pairs. Methods that need many use the wider radius of the training part's 50th
    neighbour (see `TrainingAffinity.wide`), as do all methods with `supervision=epsilon_ball`.

    A pair is within the radius if its squared distance in float64 is at most radius²; see `euclidean`.

    Args:
        neighbours: rank of the neighbour whose distance is averaged; 50 in the papers.
        sample: number of training items in the average, or all if there are fewer; 1,000 give a sampling error of the
            radius of about 1 %.
        seed: seed of the sample.
        among: "train" or "database", the part within which the radius is found.

    Raises:
        InvalidInputError: neighbours or sample is not a whole number of at least 1, or the part is unknown.
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
        # Number of items among which the radius was found.
        self.items: int | None = None

    def fit(self, features: Tensor, labels: Tensor | None) -> Self:
        """Set the radius from the items of one part; labels are ignored.

        Args:
            features: (n, d), of more than `neighbours` items.
            labels: not used.

        Raises:
            InvalidInputError: the features are invalid or too few.
        """
        features = as_features(features, name="training features")
        check_distances(features, "training features")
        if len(features) <= self.neighbours:
            raise InvalidInputError(
                f"truth.neighbours={self.neighbours} needs a {PARTS[self.among]} part of more than {self.neighbours} "
                f"items, but it has {len(features)}; lower truth.neighbours or raise protocol.{self.among}."
            )
        self.items = len(features)
        self.radius = self._mean_distance(features, self.neighbours)
        return self

    def supervise(self, features: Tensor, labels: Tensor | None, positions: Tensor | None = None) -> AmongItems:
        """Return neighbours among training items within a radius computed from them; other parts are not used.

        If the radius of the truth was found within a larger database, this one is an estimate of it, and `wide` uses
        the radius of the training part.
        """
        if self.among == "train":
            return AmongItems(self, features, labels)
        features = as_features(features, name="training features")
        own = self._ball().fit(features, labels)
        if self.items is None or self.items <= len(features):
            return AmongItems(own, features, labels)
        estimated = self._ball()
        estimated.radius = self._radius_among(features, self.items)
        return AmongItems(estimated, features, labels, wider=own)

    def _ball(self) -> Self:
        return type(self)(self.neighbours, self.sample, self.seed)

    def _mean_distance(self, features: Tensor, rank: int) -> float:
        """Return the mean distance from sampled items to their neighbour of a rank, excluding themselves."""
        array = as_array(features)
        sampled = random_order(len(array), self.seed)[: self.sample]
        # An item is its own nearest neighbour, at distance 0, so search for one more.
        _, squared = find_nearest(array[sampled], array, rank + 1, description="Radius of the ε-ball")
        return float(np.sqrt(squared).mean())

    def _radius_among(self, features: Tensor, items: int) -> float:
        """Estimate the radius among `items` items from n < items of the same kind, (n, d)."""
        rank = neighbour_rank(self.neighbours, len(features), items)
        below = max(1, math.floor(rank))
        nearer = self._mean_distance(features, below)
        if rank >= 1:
            return nearer + (rank - below) * (self._mean_distance(features, below + 1) - nearer)
        if nearer == 0 or len(features) <= 2:
            return nearer
        # Nearer than the first neighbour: distances grow as a power of the share of items within them.
        far = max(2, self.neighbours)
        power = math.log(self._mean_distance(features, far) / nearer) / math.log((far - 0.5) / 0.5)
        return nearer * math.pow((rank - 0.5) / 0.5, power)

    def relevance(
        self,
        query_features: Tensor,
        query_labels: Tensor | None,
        database_features: Tensor,
        database_labels: Tensor | None,
    ) -> Neighbours:
        """Return the database items within the radius of each query.

        Computed on the CPU; the result is on the device of the queries.

        Raises:
            NotFittedError: before `fit`.
            InvalidInputError: the features are invalid, or the ids of all neighbours do not fit in memory.
        """
        if self.radius is None:
            raise NotFittedError("EpsilonBall has no radius yet; call fit with the training part first.")
        query_features = as_features(query_features, name="query features")
        database_features = as_features(database_features, query_features.shape[1], 1, "database features")
        check_distances(query_features, "query features")
        check_distances(database_features, "database features")
        query, database = as_array(query_features), as_array(database_features)
        counts, ids, held = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        for block_counts, block_ids in find_within_radius(query, database, self.radius):
            counts.append(block_counts)
            ids.append(block_ids)
            held += len(block_ids)
            if held > MAXIMUM_IDS:
                done = sum(map(len, counts))
                raise InvalidInputError(
                    f"The ε-ball of radius {self.radius:.4g} holds {held / done / len(database):.0%} of the database "
                    f"for each query, over {MAXIMUM_IDS:,} neighbours in all; lower truth.neighbours, raise "
                    "protocol.train, or lower protocol.queries."
                )
        offsets = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
        device = query_features.device
        return Neighbours(
            torch.from_numpy(offsets).to(device), torch.from_numpy(np.concatenate(ids)).to(device), len(database)
        )
