"""Time to the n-th relevant item of a user who scans a list, tie-aware (Smucker & Clarke, SIGIR 2012)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from deephash.conversion import plain_arguments, plain_numbers
from deephash.metrics.expected_search_length import expected_search_length
from deephash.metrics.graded_ranking import GradedRanking
from deephash.metrics.user_metric import UserMetric
from deephash.validation import InvalidInputError, check_count


@plain_numbers
def scanning_seconds(ranking: GradedRanking, wanted: int = 1, glance: float = 1.0, reading: float = 5.0) -> Tensor:
    """Expected seconds until a user who scans from the top has read the n-th relevant item.

    Each irrelevant item costs a glance, each relevant one a glance and its reading: time-biased gain's simplest user
    (Smucker & Clarke, SIGIR 2012), who misses nothing.

    Args:
        ranking: of q queries.
        wanted: n, at least 1.
        glance: seconds an item; 1 is of the order of looking at one picture of a page of them.
        reading: seconds more for a relevant item.

    Returns:
        float64 (q,); NaN where a query has fewer than n relevant items.

    Raises:
        InvalidInputError: n below 1, or seconds below 0.
    """
    check_seconds(glance, reading)
    return glance * (expected_search_length(ranking, wanted) + wanted) + reading * wanted


def check_seconds(glance: float, reading: float) -> None:
    """Raise an error for seconds below 0.

    Raises:
        InvalidInputError: naming them.
    """
    if glance < 0 or reading < 0:
        raise InvalidInputError(f"glance={glance} and reading={reading} seconds; expected at least 0.")


@plain_arguments
@dataclass(frozen=True)
class ScanningSeconds(UserMetric):
    """Seconds to the n-th relevant item among a run's figures: less is better.

    Args:
        wanted: each n, the relevant items that the user wants.
        glance: seconds an item.
        reading: seconds more for a relevant item.

    Raises:
        InvalidInputError: an n below 1, or seconds below 0.
    """

    graded: ClassVar[bool] = False

    wanted: Sequence[int] = (1,)
    glance: float = 1.0
    reading: float = 5.0

    def __post_init__(self) -> None:
        for n in self.wanted:
            check_count(n, "wanted")
        check_seconds(self.glance, self.reading)

    def values(self, ranking: GradedRanking, mark: str = "") -> dict[str, Tensor]:
        """Seconds to the n-th relevant item, of each query."""
        return {
            f"scanning_seconds{mark}@{n}": scanning_seconds(ranking, n, self.glance, self.reading) for n in self.wanted
        }
