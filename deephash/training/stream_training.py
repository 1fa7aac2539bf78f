"""Learning from a stream: test on arriving items, encode them, learn from them, and re-encode old codes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.data.descriptors.base import Descriptor
from deephash.data.items import Items
from deephash.functional.single_thread import single_thread
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
from deephash.training.stream_rows import draw_balanced, draw_withheld
from deephash.training.stream_state import StreamProgress, describe_hasher, restore_hasher
from deephash.validation import InvalidInputError, check_count, is_number

# Order of the steps, kept in checkpoints: earlier versions learnt from items before they encoded them.
ORDER = "encode before learning"


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """Settings of training on a stream.

    Args:
        batch_size: items per step.
        first_batch: items of the first step, from which the hasher starts. They arrive before there is a hash
            function, so they have no code and are never searched.
        checkpoints: number of times, evenly spaced, at which all queries are ranked and the state is saved.
        queries: maximum number of queries.
        capacity: maximum number of items in the database.
        refit_every: items between fits, for methods that learn from all items at once; None fits only on the first
            batch.
        neighbours: number of nearest items over which the precision of an arriving item is computed.
        unlabelled: share of the rows that are never learnt from. If it is above 0, queries are ranked against these
            items alone, so that no scored code, re-encoded or not, is computed by a function that has learnt from its
            item.

    Raises:
        InvalidInputError: a number is below 1, or `unlabelled` is not from 0 to below 1.
    """

    batch_size: int = 100
    first_batch: int = 500
    checkpoints: int = 20
    queries: int = 500
    capacity: int = 10_000
    refit_every: int | None = 1000
    neighbours: int = 10
    unlabelled: float = 0.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "first_batch", "checkpoints", "queries", "neighbours"):
            check_count(getattr(self, name), f"train.{name}")
        if self.refit_every is not None:
            check_count(self.refit_every, "train.refit_every")
        if not is_number(self.unlabelled) or not 0 <= self.unlabelled < 1:
            raise InvalidInputError(
                f"train.unlabelled={self.unlabelled!r}; expected a share of the items, from 0 to below 1."
            )


class StreamTraining:
    """Training of a hasher on a stream, with a searchable database, in memory that does not grow with the stream.

    A batch is encoded by the hash function in use before the method learns from it. So a code does not depend on the
    label of its item, unless the code was re-encoded, or the item arrived before, as items do in streams longer than
    the data. With `settings.unlabelled`, the scored items are never learnt from. Queries are held out of the stream in
    any case.

    An online method learns from each batch when it arrives. Any other method is refitted from scratch on all items of
    the database whenever `refit_every` items have arrived; it is the baseline for online methods.

    Args:
        hasher: unfitted hasher.
        truth: ground truth by labels.
        ranking: engine that ranks the codes.
        stream: order of arrival.
        reencoding: policy that chooses which codes to re-encode.
        settings: sizes and intervals.
        supervision: definition of neighbours, for methods fitted from pairs; None for that of the truth.
        seed: seed of all random draws.
    """

    def __init__(
        self,
        hasher: Hasher,
        truth: Affinity,
        ranking: RankingEngine,
        stream: Stream,
        reencoding: Reencoding,
        settings: StreamSettings,
        supervision: Affinity | None = None,
        seed: int = 0,
    ) -> None:
        self.blueprint = hasher.describe()
        self.learner = hasher
        self.truth = truth
        self.ranking = ranking
        self.stream = stream
        self.reencoding = reencoding
        self.settings = settings
        self.supervision = supervision
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.progress = StreamProgress()

    def prepare(
        self, items: Items, pool: Tensor, queries: Tensor, classes: int, descriptor: Descriptor | None = None
    ) -> None:
        """Arrange the stream over a data set.

        Args:
            items: data set with labels.
            pool: int64, rows that may arrive.
            queries: int64, rows to choose the queries from.
            classes: number of classes c.
            descriptor: descriptor that computes features from images; None if the features are given.

        Raises:
            InvalidInputError: the data do not suit the stream, no item arrives after the first batch, or
                `unlabelled` is above 0 and selects no row.
        """
        self.stream.check(items, descriptor)
        if self.settings.first_batch >= self.stream.length:
            raise InvalidInputError(
                f"train.first_batch={self.settings.first_batch} leaves none of the {self.stream.length} items of the "
                "stream to be searched; lower it."
            )
        assert items.labels is not None
        self.items, self.classes, self.descriptor = items, classes, descriptor
        self.arrivals = self.stream.arrivals(items.labels, pool, classes, self.seed)
        self.withheld = draw_withheld(len(items.labels), pool, self.settings.unlabelled, self.seed)
        if self.settings.unlabelled and not bool(self.withheld.any()):
            raise InvalidInputError(
                f"train.unlabelled={self.settings.unlabelled} of {len(pool)} rows is none, so nothing would be "
                "searched; raise it."
            )
        self.query_rows = draw_balanced(items.labels, queries, self.settings.queries, self.seed)
        database = StreamDatabase(self.settings.capacity, self.learner.input_dim, self.learner.bits, items.labels)
        self.search = StreamSearch(self.learner, database, self.ranking, self.reencoding.maps_queries)

    def run(self, checkpoint: Path, report: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Process the stream to its end, from the last checkpoint on.

        Args:
            checkpoint: file of the state at the last checkpoint; each checkpoint replaces it.
            report: function that is called with the entry of each checkpoint.
        """
        if stored := latest(checkpoint):
            self.restore(SafetensorsCheckpoint().load_checkpoint(stored))
            self.arrivals.skip(self.seen)
        while self.seen < self.stream.length:
            due = self._next_checkpoint()
            with single_thread():  # Thousands of small products and decompositions.
                while self.seen < due:
                    size = self.settings.batch_size if self.seen else self.settings.first_batch
                    self.step(self.arrivals.take(min(size, due - self.seen)))
            self.history.append(self.evaluate())
            SafetensorsCheckpoint().save_checkpoint(self.state(), checkpoint)
            if report is not None:
                report(self.history[-1])

    @property
    def seen(self) -> int:
        """Number of items that have arrived."""
        return self.search.database.seen

    @property
    def history(self) -> list[dict[str, Any]]:
        """Scores and costs at each checkpoint."""
        return self.progress.history

    def step(self, rows: Tensor) -> None:
        """Process arriving items: test on them, encode them, learn from them, and re-encode the codes that are due.

        Args:
            rows: int64 (n,), rows of the data set.
        """
        features = self.stream.features(self.items, rows, self.seen, self.descriptor, self.seed)
        assert self.items.labels is not None
        labels, learnable, progress = self.items.labels[rows], ~self.withheld[rows], self.progress
        with progress.timed("evaluate"):
            precisions = self.search.precision(features[learnable], labels[learnable], self.settings.neighbours)
        progress.add_precisions(precisions)
        with progress.timed("encode"):
            self.search.add(features, labels, learnable, self.generator)
        with progress.timed("learn"):
            is_new = self._learn(features[learnable], labels[learnable])
        is_first = self.search.current_version == 0
        if is_new and (is_first or self.reencoding.publishes(self.seen - progress.published_at)):
            with progress.timed("reencode"):
                self.search.publish(self.learner)
            progress.published_at = self.seen
        self._reencode(precisions)

    def evaluate(self) -> dict[str, Any]:
        """Rank the queries, and return the costs so far and the mAP, in which classes weigh their current shares.

        Items with codes are ranked; with `settings.unlabelled`, only those that are never learnt from.

        Raises:
            InvalidInputError: there is no such item yet.
        """
        places = self._scored_places()
        with self.progress.timed("evaluate"):
            features = self.stream.features(self.items, self.query_rows, self.seen, self.descriptor, self.seed)
            assert self.items.labels is not None
            labels = self.items.labels[self.query_rows]
            scores = average_precision(self.search.counts(features, labels, places))
        per_class, mean = [], float(scores.nanmean())
        if labels.ndim == 1:
            by_class = [scores[labels == label] for label in range(self.classes)]
            per_class = [float(s.nanmean()) if bool(s.isfinite().any()) else None for s in by_class]
            shares = self.stream.shares(torch.tensor([self.seen - 1]), self.classes)[0].tolist()
            mean = sum(share * (score or 0.0) for share, score in zip(shares, per_class, strict=True))
        database, version, progress = self.search.database, self.search.current_version, self.progress
        return {
            "seen": self.seen,
            "mAP": mean,
            "per_class": per_class,
            "database": len(places),
            "stale": int((database.code_versions[places] < version).sum()),
            "functions": version,
            "prequential_precision": progress.mean_precision,
            "reencoded_items": progress.reencoded_items,
            "reencoded_bytes": progress.reencoded_items * database.codes.shape[1],
            "flipped_bits": progress.flipped_bits,
            "seconds": dict(progress.seconds),
            "processor_seconds": dict(progress.processor_seconds),
        }

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the stream depends on."""
        return {
            "order": ORDER,
            "learner": describe_hasher(self.learner),
            "present": None if self.search.hasher is self.learner else describe_hasher(self.search.hasher),
            "search": self.search.state(),
            "reencoding": self.reencoding.state(),
            "generator": self.generator.get_state(),
            **self.progress.describe(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state that `state` returned.

        Raises:
            InvalidInputError: the state is of an earlier version, which encoded items after learning from them.
        """
        if state.get("order") != ORDER:
            raise InvalidInputError(
                "the checkpoint is of an earlier version, which learnt from items before it encoded them, so its codes "
                "cannot be continued; run the stream again in another folder."
            )
        self.learner = restore_hasher(state["learner"])
        current = self.learner if state["present"] is None else restore_hasher(state["present"])
        self.search.restore(state["search"], current)
        self.reencoding.restore(state["reencoding"])
        self.generator.set_state(state["generator"])
        self.progress = StreamProgress.restore(state)

    def present_classes(self) -> list[bool]:
        """Return for each class whether it arrives at the end of the stream."""
        return (self.stream.shares(torch.tensor([self.stream.length - 1]), self.classes)[0] > 0).tolist()

    def _next_checkpoint(self) -> int:
        """Return the number of items at the next checkpoint, which follows the end of the first batch."""
        count = self.settings.checkpoints
        spaced = (-(-(i + 1) * self.stream.length // count) for i in range(count))
        return next(at for at in spaced if at > self.seen and at > self.settings.first_batch)

    def _scored_places(self) -> Tensor:
        """Return the places of the items that queries are ranked against, int64."""
        database = self.search.database
        is_scored = database.code_versions > 0
        if self.settings.unlabelled:
            is_scored &= ~database.learnable
        if not bool(is_scored.any()):
            raise InvalidInputError(
                f"none of the first {self.seen} items is scored; lower train.checkpoints, or raise train.unlabelled."
            )
        return torch.nonzero(is_scored).flatten()

    def _learn(self, features: Tensor, labels: Tensor) -> bool:
        """Learn from arriving items, and return whether the hash function has changed."""
        if isinstance(self.learner.projection, OnlineProjection):
            needs_labels = "labels" in self.learner.projection.requires
            generator = torch.Generator().manual_seed(self.seed)
            update = self.learner.partial_fit(features, labels=labels if needs_labels else None, generator=generator)
            return update.is_stale
        refit_every, database = self.settings.refit_every, self.search.database
        is_due = refit_every is not None and self.seen - self.progress.fitted_at >= refit_every
        if self.search.current_version and not is_due:
            return False
        assert database.labels is not None
        features, labels = database.features[database.learnable], database.labels[database.learnable]
        self.learner = Hasher.build(copy.deepcopy(self.blueprint))
        affinity = None
        if "affinity" in self.learner.projection.requires | self.learner.quantizer.requires:
            ids = torch.arange(len(features))
            affinity = training_affinity(self.truth.fit(features, labels), self.supervision, features, labels, ids)
        generator = torch.Generator().manual_seed(self.seed)
        self.learner.fit(features, labels=labels, affinity=affinity, generator=generator)
        self.progress.fitted_at = self.seen
        return True

    def _reencode(self, precisions: Tensor) -> None:
        """Re-encode the codes that the policy chooses."""
        search, progress = self.search, self.progress
        items_since_update = self.seen - progress.reencoded_at
        staleness = Staleness(
            search.database.code_versions, search.current_version, self.seen, items_since_update, precisions
        )
        places = self.reencoding.due(staleness)
        if len(places) == 0:
            return
        with progress.timed("reencode"):
            progress.flipped_bits += search.reencode(places)
        progress.reencoded_items += len(places)
        progress.reencoded_at = self.seen
