"""Time until a user who scans a list has read the n-th relevant item, tie-aware (Smucker & Clarke, SIGIR 2012)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from deephash.conversion import convert_numpy_arguments, convert_numpy_numbers
from deephash.metrics.expected_search_length import expected_search_length
from deephash.metrics.graded_ranking import GradedRanking
from deephash.metrics.user_metric import UserMetric
from deephash.validation import InvalidInputError, check_count


@convert_numpy_numbers
def scanning_seconds(ranking: GradedRanking, wanted: int = 1, glance: float = 1.0, reading: float = 5.0) -> Tensor:
    """Compute the expected seconds until a user who scans from the top has read the n-th relevant item.

    Each irrelevant item costs a glance, each relevant one a glance and the time to read it: the simplest user of
    time-biased gain (Smucker & Clarke, SIGIR 2012), who overlooks nothing.

    Args:
        ranking: ranking of q queries.
        wanted: n, at least 1.
        glance: seconds per item; 1 is typical of one picture on a page of pictures.
        reading: additional seconds per relevant item.

    Returns:
        float64 (q,); NaN if a query has fewer than n relevant items.

    Raises:
        InvalidInputError: n below 1, or seconds below 0.
    """
    check_seconds(glance, reading)
    return glance * (expected_search_length(ranking, wanted) + wanted) + reading * wanted


def check_seconds(glance: float, reading: float) -> None:
    """Raise an error for seconds below 0.

    Raises:
        InvalidInputError: seconds are below 0.
    """
    if glance < 0 or reading < 0:
        raise InvalidInputError(f"glance={glance} and reading={reading} seconds; expected at least 0.")


@convert_numpy_arguments
@dataclass(frozen=True)
class ScanningSeconds(UserMetric):
    """Seconds to the n-th relevant item among the figures of a run; lower is better.

    Args:
        wanted: numbers n of relevant items that the user wants.
        glance: seconds per item.
        reading: additional seconds per relevant item.

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
        """Return the seconds to the n-th relevant item, for each query."""
        return {
            f"scanning_seconds{mark}@{n}": scanning_seconds(ranking, n, self.glance, self.reading) for n in self.wanted
        }
