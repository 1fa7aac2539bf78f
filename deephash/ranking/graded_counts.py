"""The result of a ranking by graded relevance: the number of items of each grade at each distance.

A grade is the number of labels that a query and an item share. Metrics of user models need only these counts, not the
order of tied items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance
from deephash.ranking.inputs import check_ranked
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError, check_count


@dataclass(frozen=True)
class GradedCounts:
    """A query's ranking as one histogram per grade over its D + 1 possible distances.

    Args:
        by_grade: int64 (q, D + 1, G + 1), items of grade 0, 1, ..., G at each distance.

    Raises:
        InvalidInputError: wrong dtype or shape, only grade 0, or a negative count.
    """

    by_grade: Tensor

    def __post_init__(self) -> None:
        counts = self.by_grade
        if counts.dtype != torch.int64 or counts.ndim != 3 or counts.shape[2] < 2:
            raise InvalidInputError(
                f"graded counts are {counts.dtype} {tuple(counts.shape)}; expected int64 (q, D + 1, G + 1), G from 1."
            )
        if bool((counts < 0).any()):
            raise InvalidInputError(f"graded counts hold {int(counts.min())}; a count is at least 0.")

    @classmethod
    def from_counts(cls, counts: DistanceCounts) -> "GradedCounts":
        """Build counts of two grades: 0, not relevant, and 1, relevant."""
        return cls.from_nested(counts)

    @classmethod
    def from_nested(cls, *at_least: DistanceCounts) -> "GradedCounts":
        """Build counts from one `DistanceCounts` per grade, whose relevant items have at least that grade, from 1."""
        steps = [at_least[0].total, *(counts.relevant for counts in at_least)]
        above = [*steps[1:], torch.zeros_like(steps[0])]
        return cls(torch.stack([step - higher for step, higher in zip(steps, above, strict=True)], 2))

    @property
    def highest(self) -> int:
        """The highest grade G of an item."""
        return self.by_grade.shape[2] - 1

    @property
    def total(self) -> Tensor:
        """Items at each distance, int64 (q, D + 1)."""
        return self.by_grade.sum(2)

    def at_least(self, grade: int) -> DistanceCounts:
        """Return counts in which an item is relevant from `grade` on.

        Raises:
            InvalidInputError: a grade below 1 or above G.
        """
        check_count(grade, "grade")
        if grade > self.highest:
            raise InvalidInputError(f"grade={grade} exceeds {self.highest}, the highest grade; lower it.")
        return DistanceCounts(self.total, self.by_grade[:, :, grade:].sum(2))


def graded_counts(
    query_codes: Tensor,
    database_codes: Tensor,
    distance: Distance,
    query_labels: Tensor,
    database_labels: Tensor,
    highest: int | None = None,
    block_bytes: int = 256 * 2**20,
) -> GradedCounts:
    """Count items at each distance by the number of labels shared with the query, in blocks of bounded memory.

    Args:
        query_codes: packed uint8 (q, ⌈b/8⌉).
        database_codes: packed uint8 (N, ⌈b/8⌉), on the same device.
        distance: distance to rank by.
        query_labels: indicator bool (q, c), on that device.
        database_labels: indicator bool (N, c).
        highest: G, at least the largest number of labels of any query; None uses that number.
        block_bytes: memory of a block of queries × items.

    Returns:
        Grades 0 to G.

    Raises:
        InvalidInputError: codes of the wrong length, labels that are not boolean indicators, or a G below the largest
            number of labels.
    """
    check_ranked(query_codes, database_codes, distance)
    for labels, codes, name in ((query_labels, query_codes, "query"), (database_labels, database_codes, "database")):
        if labels.dtype != torch.bool or labels.ndim != 2 or len(labels) != len(codes):
            raise InvalidInputError(
                f"{name} labels are {labels.dtype} {tuple(labels.shape)}; expected an indicator bool ({len(codes)}, c)."
            )
    if query_labels.shape[1] != database_labels.shape[1]:
        raise InvalidInputError(
            f"query labels have {query_labels.shape[1]} classes and database labels {database_labels.shape[1]}; "
            "expected the same classes."
        )
    most = int(query_labels.sum(1).max()) if len(query_labels) else 0
    highest = max(1, most) if highest is None else highest
    if highest < most:
        raise InvalidInputError(f"highest={highest}; expected at least {most}, the most labels of a query.")
    grades = 1 + highest
    bins = distance.maximum + 1
    counts = torch.zeros(len(query_codes), bins * grades, dtype=torch.int64, device=query_codes.device)
    for rows, items, distances in TorchEngine(block_bytes).blocks(query_codes, database_codes, distance):
        # Products of zeros and ones, exact below 2^24.
        shared = (query_labels[rows].float() @ database_labels[items].float().T).long()
        cells = distances.mul_(grades).add_(shared)
        cells += bins * grades * torch.arange(len(cells), device=cells.device)[:, None]
        counts[rows] += torch.bincount(cells.flatten(), minlength=len(cells) * bins * grades).view(len(cells), -1)
    return GradedCounts(counts.view(len(query_codes), bins, grades))
