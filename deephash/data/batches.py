"""Random batches of the training part, determined by seed and epoch."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from deephash.data.items import Features, Part
from deephash.data.judged_pairs import JudgedPairs
from deephash.data.prefetch_loader import build_loader, read_batch
from deephash.validation import InvalidInputError, check_count

Order = Callable[..., Iterable[int]]
"""A callable that returns training rows for its argument `labels`, such as a sampler of pytorch-metric-learning."""


class EpochBatches(Sampler[Tensor]):
    """Rows of each batch of an epoch, shared equally between processes.

    A batch is drawn as a whole and then divided, so batches do not depend on the number of processes.
    Incomplete batches at the end of an epoch are dropped.

    Args:
        items: number of training items.
        batch_size: items per batch, over all processes; a smaller training part is one batch.
        seed: seed of every epoch's order.
        rank: rank of this process.
        processes: number of processes that share each batch.
        order: builds a sampler of rows; None shuffles all rows.
        labels: labels for `order`.

    Raises:
        InvalidInputError: a batch size or number of items below 2, since losses compare pairs, or below the number of
            processes.
    """

    def __init__(
        self,
        items: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        order: Order | None = None,
        labels: Tensor | None = None,
    ) -> None:
        check_count(batch_size, "train.batch_size")
        if min(batch_size, items) < max(2, processes):
            raise InvalidInputError(
                f"train.batch_size={batch_size} of {items} training items for {processes} processes; expected at "
                "least 2, and one item per process: raise train.batch_size."
            )
        # Joining codes across processes needs equal shares.
        self.batch_size = min(batch_size, items) // processes * processes
        self.items, self.seed, self.rank, self.processes = items, seed, rank, processes
        self.order, self.labels = order, labels
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.items // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        rows = self._draw_rows()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield rows[start : start + self.batch_size][self.rank :: self.processes]

    def _draw_rows(self) -> Tensor:
        seeds = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)
        if self.order is None:
            return torch.randperm(self.items, generator=torch.Generator().manual_seed(int(seeds[0])))
        # Samplers of other libraries draw from NumPy's global state.
        np.random.seed(int(seeds[0]))  # noqa: NPY002
        labels = None if self.labels is None else self.labels.numpy()
        needed = len(self) * self.batch_size
        rows: list[int] = []
        while len(rows) < needed:
            before = len(rows)
            rows.extend(int(row) for row in self.order(labels=labels))
            if len(rows) == before:
                raise InvalidInputError(f"train.order={self.order!r} returns no rows of {self.items} training items.")
        return torch.tensor(rows[:needed])


class PartRows(Dataset[dict[str, Any]]):
    """A part as a dataset indexed by tensors of rows.

    Args:
        part: the items.
    """

    def __init__(self, part: Part) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, rows: Tensor) -> dict[str, Any]:
        """Return positions in the part int64 (m,), features (m, d), and labels if there are any."""
        content = {"positions": rows, "features": read_batch(self.part.features, rows)}
        if self.part.labels is not None:
            content["labels"] = self.part.labels[rows]
        return content


class PairRows(Dataset[dict[str, Any]]):
    """Pairs of a query and a passage as a dataset indexed by tensors of rows.

    Args:
        features: features of the whole data set.
        pairs: the pairs.
    """

    def __init__(self, features: Features, pairs: JudgedPairs) -> None:
        self.features = features
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, rows: Tensor) -> dict[str, Any]:
        """Return rows of queries and passages in the data set int64 (m,), and their features (m, d)."""
        queries, passages = self.pairs.queries[rows], self.pairs.items[rows]
        return {
            "positions": queries,
            "features": self.features[queries],
            "passages": passages,
            "passage_features": self.features[passages],
        }


def build_pair_loader(features: Features, pairs: JudgedPairs, batches: EpochBatches) -> "DataLoader[dict[str, Any]]":
    """Return a loader of batches of pairs."""
    return DataLoader(PairRows(features, pairs), batch_size=None, num_workers=0, sampler=batches)


def build_batch_loader(part: Part, batches: EpochBatches) -> "DataLoader[dict[str, Any]]":
    """Return a loader of a part's batches; images in files are decoded while the last batch is used."""
    return build_loader(part, PartRows(part), sampler=batches)
