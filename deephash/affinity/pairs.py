"""Neighbours by a list of pairs: supervision without labels or distances."""

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import ListedPairs
from deephash.data.array_file import read_array
from deephash.io.item_names import as_int64
from deephash.ranking.relevance import Relevance
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    from deephash.data.items import Part


class Pairs(Affinity):
    """Neighbours = the pairs of a file, in both directions; a training item is its own neighbour.

    Pairs serve only as supervision, since they cannot contain new queries; use another truth for scoring. Pairs with an
    item outside the training part are ignored, so that training uses no scored items.

    Args:
        path: an .npy file, int64 (p, 2), of rows in the data set, numbered as in the split; required.

    Raises:
        InvalidInputError: no path, a missing or damaged file, or contents that are not pairs of rows.
    """

    def __init__(self, path: str | None = None) -> None:
        if path is None:
            raise InvalidInputError("supervision.path is not set; give an .npy file of pairs, int64 (p, 2).")
        self.path = path
        self.pairs = torch.from_numpy(_read_pairs(Path(path)))

    def fit(self, features: Tensor, labels: Tensor | None) -> Self:
        """Do nothing; the pairs are given."""
        return self

    def check_parts(self, queries: "Part", database: "Part") -> None:
        """Raise the error of `relevance`."""
        self.relevance(queries.features, queries.labels, database.features, database.labels)

    def relevance(
        self,
        query_features: Tensor,
        query_labels: Tensor | None,
        database_features: Tensor,
        database_labels: Tensor | None,
    ) -> Relevance:
        """Raise an error: listed pairs cannot be the truth for queries.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError(
            "pairs are supervision among training items, not a truth for queries; use truth=label, "
            "truth=epsilon_ball or truth=nearest_neighbours."
        )

    def supervise(self, features: Tensor, labels: Tensor | None, positions: Tensor | None = None) -> ListedPairs:
        """Return the pairs within the training part, renumbered to its rows."""
        if positions is None:
            return ListedPairs(self.pairs, len(features))
        positions = positions.cpu()
        rows = int(max(positions.max(), self.pairs.max() if self.pairs.numel() else 0)) + 1
        place = torch.full((rows,), -1)
        place[positions] = torch.arange(len(positions))
        pairs = place[self.pairs]
        return ListedPairs(pairs[(pairs >= 0).all(1)], len(features))


def _read_pairs(path: Path) -> np.ndarray:
    pairs = np.asarray(read_array(path))
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise InvalidInputError(f"{path} has shape {pairs.shape} and dtype {pairs.dtype}; expected integers (p, 2).")
    pairs = as_int64(pairs, f"pairs of {path}")
    if pairs.size and pairs.min() < 0:
        raise InvalidInputError(f"{path} names item {pairs.min()}; rows start at 0.")
    return pairs
