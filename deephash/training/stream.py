"""Learning from a stream: test on what arrives, learn from it, encode it, and re-encode as a policy says."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.data.descriptors.base import Descriptor
from deephash.data.items import Items
from deephash.functional.single_thread import single_thread
from deephash.hashers import storage
from deephash.hashers.hasher import Hasher
from deephash.metrics.average_precision import average_precision
from deephash.projections.online.base import OnlineProjection
from deephash.ranking.base import RankingEngine
from deephash.streams.base import Stream
from deephash.streams.database import StreamDatabase
from deephash.streams.reencoding.base import Reencoding, Staleness
from deephash.streams.stream_search import StreamSearch
from deephash.training.checkpoint import SafetensorsCheckpoint, latest
from deephash.training.fit_module import training_affinity
from deephash.validation import InvalidInputError, check_count


class StreamTraining:
    """A hasher, a database and a policy on their way through a stream, in memory that does not grow with it.

    A method that learns from a stream takes each batch as it comes. Any other is refitted, from the start, on all
    items that the database holds whenever `refit_every` have arrived: what learning from a stream is measured against.

    Args:
        hasher: what learns.
        truth: which items are relevant; labels alone.
        ranking: the engine that ranks codes.
        stream: what arrives.
        reencoding: which codes are re-encoded.
        supervision: which items are neighbours, for methods fitted from pairs; None for the truth's own rule.
        seed: of all random draws.
        batch_size: items a step.
        first_batch: items of the first step, from which the hasher starts.
        checkpoints: times, evenly through the stream, at which all queries are ranked and the state is stored.
        queries: most queries.
        capacity: most items of the database.
        refit_every: items from one fit to the next, of methods that learn from all items at once; None: the first
            batch is all that they ever learn from.
        neighbours: nearest items that arriving ones are tested on.

    Raises:
        InvalidInputError: a number below 1.
    """

    def __init__(
        self,
        hasher: Hasher,
        truth: Affinity,
        ranking: RankingEngine,
        stream: Stream,
        reencoding: Reencoding,
        supervision: Affinity | None = None,
        seed: int = 0,
        batch_size: int = 100,
        first_batch: int = 500,
        checkpoints: int = 20,
        queries: int = 500,
        capacity: int = 10_000,
        refit_every: int | None = 1000,
        neighbours: int = 10,
    ) -> None:
        for name, value in (
            ("batch_size", batch_size),
            ("first_batch", first_batch),
            ("checkpoints", checkpoints),
            ("queries", queries),
            ("neighbours", neighbours),
        ):
            check_count(value, f"train.{name}")
        if refit_every is not None:
            check_count(refit_every, "train.refit_every")
        self.blueprint = hasher.describe()
        self.learner = hasher
        self.truth = truth
        self.ranking = ranking
        self.stream = stream
        self.reencoding = reencoding
        self.supervision = supervision
        self.seed = seed
        self.batch_size = batch_size
        self.first_batch = first_batch
        self.checkpoints = checkpoints
        self.queries = queries
        self.capacity = capacity
        self.refit_every = refit_every
        self.neighbours = neighbours

        self.generator = torch.Generator().manual_seed(seed)
        self.published_at = self.fitted_at = self.reencoded_at = 0
        self.reencoded_items = self.flipped_bits = 0
        self.precisions = [0.0, 0.0]  # Their sum and number.
        self.seconds = dict.fromkeys(("learn", "encode", "reencode", "evaluate"), 0.0)
        self.processor_seconds = dict(self.seconds)
        self.history: list[dict[str, Any]] = []

    def prepare(
        self, items: Items, pool: Tensor, queries: Tensor, classes: int, descriptor: Descriptor | None = None
    ) -> None:
        """Lay out the stream over a data set.

        Args:
            items: the data set, with labels.
            pool: int64, the rows that may arrive.
            queries: int64, the rows that ask.
            classes: number of classes c.
            descriptor: what turns its images into features, where it has one.

        Raises:
            InvalidInputError: data that the stream cannot be made of, or a first batch beyond its length.
        """
        self.stream.check(items, descriptor)
        if self.first_batch > self.stream.length:
            raise InvalidInputError(
                f"train.first_batch={self.first_batch} exceeds the {self.stream.length} items of the stream; lower it."
            )
        assert items.labels is not None
        self.items, self.classes, self.descriptor = items, classes, descriptor
        self.arrivals = self.stream.arrivals(items.labels, pool, classes, self.seed)
        self.query_rows = balanced(items.labels, queries, self.queries, self.seed)
        database = StreamDatabase(self.capacity, self.learner.input_dim, self.learner.bits, items.labels)
        self.search = StreamSearch(self.learner, database, self.ranking, self.reencoding.maps_queries)

    def run(self, checkpoint: Path, report: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Go through the stream to its end, from where a checkpoint left it.

        Args:
            checkpoint: the file that holds the state at the last checkpoint; written at each.
            report: is told what each checkpoint found.
        """
        if goes_on := latest(checkpoint):
            self.restore(SafetensorsCheckpoint().load_checkpoint(goes_on))
            self.arrivals.skip(self.seen)
        while self.seen < self.stream.length:
            due = self._next_checkpoint()
            with single_thread():  # Small products and decompositions, thousands of them.
                while self.seen < due:
                    size = self.batch_size if self.seen else self.first_batch
                    self.step(self.arrivals.take(min(size, due - self.seen)))
            self.history.append(self.evaluate())
            SafetensorsCheckpoint().save_checkpoint(self.state(), checkpoint)
            if report is not None:
                report(self.history[-1])

    @property
    def seen(self) -> int:
        """Items that have arrived."""
        return self.search.database.seen

    def step(self, rows: Tensor) -> None:
        """Items arrive: test on them, learn from them, encode them, and re-encode what the policy says.

        Args:
            rows: int64 (n,), rows of the data set.
        """
        features = self.stream.features(self.items, rows, self.seen, self.descriptor, self.seed)
        assert self.items.labels is not None
        labels = self.items.labels[rows]
        with self._timed("evaluate"):
            precisions = self.search.precision(features, labels, self.neighbours)
        self.precisions = [self.precisions[0] + float(precisions.sum()), self.precisions[1] + len(precisions)]
        with self._timed("learn"):
            moved = self._learn(features, labels, rows)
        if moved and (self.seen == 0 or self.reencoding.publishes(self.seen + len(rows) - self.published_at)):
            with self._timed("reencode"):
                self.search.publish(self.learner)
            self.published_at = self.seen + len(rows)
        with self._timed("encode"):
            self.search.add(features, labels, self.generator)
        self._reencode(precisions)

    def evaluate(self) -> dict[str, Any]:
        """Rank the queries, as they look now, against the database: mAP by the classes' present shares; the costs."""
        with self._timed("evaluate"):
            features = self.stream.features(self.items, self.query_rows, self.seen, self.descriptor, self.seed)
            assert self.items.labels is not None
            labels = self.items.labels[self.query_rows]
            scores = average_precision(self.search.counts(features, labels))
        per_class, mean = [], float(scores.nanmean())
        if labels.ndim == 1:
            own = [scores[labels == label] for label in range(self.classes)]
            per_class = [float(s.nanmean()) if bool(s.isfinite().any()) else None for s in own]
            shares = self.stream.shares(torch.tensor([self.seen - 1]), self.classes)[0].tolist()
            mean = sum(share * (score or 0.0) for share, score in zip(shares, per_class, strict=True))
        total, number = self.precisions
        database, version = self.search.database, self.search.current_version
        return {
            "seen": self.seen,
            "mAP": mean,
            "per_class": per_class,
            "database": len(database),
            "stale": int((database.code_versions < version).sum()),
            "functions": version,
            "prequential_precision": total / number if number else math.nan,
            "reencoded_items": self.reencoded_items,
            "reencoded_bytes": self.reencoded_items * database.codes.shape[1],
            "flipped_bits": self.flipped_bits,
            "seconds": dict(self.seconds),
            "processor_seconds": dict(self.processor_seconds),
        }

    def state(self) -> dict[str, Any]:
        """All that the rest of the stream depends on."""
        return {
            "learner": stored(self.learner),
            "present": None if self.search.hasher is self.learner else stored(self.search.hasher),
            "search": self.search.state(),
            "reencoding": self.reencoding.state(),
            "generator": self.generator.get_state(),
            "counters": [
                self.published_at,
                self.fitted_at,
                self.reencoded_at,
                self.reencoded_items,
                self.flipped_bits,
            ],
            "precisions": self.precisions,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.learner = restored(state["learner"])
        present = self.learner if state["present"] is None else restored(state["present"])
        self.search.restore(state["search"], present)
        self.reencoding.restore(state["reencoding"])
        self.generator.set_state(state["generator"])
        self.published_at, self.fitted_at, self.reencoded_at, *costs = state["counters"]
        self.reencoded_items, self.flipped_bits = costs
        self.precisions = state["precisions"]
        self.seconds, self.processor_seconds = state["seconds"], state["processor_seconds"]
        self.history = state["history"]

    def present_classes(self) -> list[bool]:
        """Of each class, whether it arrives at the end of the stream."""
        return (self.stream.shares(torch.tensor([self.stream.length - 1]), self.classes)[0] > 0).tolist()

    def _next_checkpoint(self) -> int:
        """Items at the next checkpoint; the first comes no earlier than the first batch."""
        spaced = (-(-(i + 1) * self.stream.length // self.checkpoints) for i in range(self.checkpoints))
        return next(at for at in spaced if at > self.seen and at >= self.first_batch)

    def _learn(self, features: Tensor, labels: Tensor, rows: Tensor) -> bool:
        """Whether the learner is another function now."""
        if isinstance(self.learner.projection, OnlineProjection):
            needs = "labels" in self.learner.projection.requires
            generator = torch.Generator().manual_seed(self.seed)
            update = self.learner.partial_fit(features, labels=labels if needs else None, generator=generator)
            return update.is_stale
        since = self.seen + len(rows) - self.fitted_at
        if self.seen and (self.refit_every is None or since < self.refit_every):
            return False
        database = self.search.database
        assert database.labels is not None
        features, labels = torch.cat([database.features, features]), torch.cat([database.labels, labels])
        self.learner = Hasher.build(copy.deepcopy(self.blueprint))
        affinity = None
        if "affinity" in self.learner.projection.requires | self.learner.quantizer.requires:
            ids = torch.arange(len(features))
            affinity = training_affinity(self.truth.fit(features, labels), self.supervision, features, labels, ids)
        generator = torch.Generator().manual_seed(self.seed)
        self.learner.fit(features, labels=labels, affinity=affinity, generator=generator)
        self.fitted_at = self.seen + len(rows)
        return True

    def _reencode(self, precisions: Tensor) -> None:
        search, since_update = self.search, self.seen - self.reencoded_at
        staleness = Staleness(
            search.database.code_versions, search.current_version, self.seen, since_update, precisions
        )
        places = self.reencoding.due(staleness)
        if len(places) == 0:
            return
        with self._timed("reencode"):
            self.flipped_bits += self.search.reencode(places)
        self.reencoded_items += len(places)
        self.reencoded_at = self.seen

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started, processor_started = time.perf_counter(), time.process_time()
        yield
        self.seconds[what] += time.perf_counter() - started
        self.processor_seconds[what] += time.process_time() - processor_started


def balanced(labels: Tensor, rows: Tensor, most: int, seed: int) -> Tensor:
    """Some of the rows, as many of each class, or any of items with several labels.

    Args:
        labels: int64 (n,) or bool (n, c).
        rows: int64, to choose from.
        most: how many at most.
        seed: of the draw.

    Returns:
        int64, rising.
    """
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    if labels.ndim == 1:
        own = [rows[labels[rows] == label] for label in torch.unique(labels[rows]).tolist()]
        rows = torch.cat([part[: max(1, most // len(own))] for part in own])
    return rows[:most].sort().values


def stored(hasher: Hasher) -> dict[str, Any]:
    """What a hasher is built of, and its weights."""
    return {"description": hasher.describe(), "weights": dict(hasher.state_dict())}


def restored(state: dict[str, Any]) -> Hasher:
    """The hasher that `stored` gave."""
    return storage.restore(Hasher.build, state["description"], state["weights"], Path("checkpoint"))
