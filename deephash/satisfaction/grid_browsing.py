"""A user of a page of pictures, after findings on image search (Xie, Mao, Liu, de Rijke et al., WWW 2019)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.conversion import convert_numpy_arguments
from deephash.satisfaction.sessions import Sessions, draw_uniform, find_first_rank, get_chances
from deephash.validation import check_count, check_positive


@convert_numpy_arguments
@dataclass(frozen=True)
class GridBrowsing:
    """A user scans rows of pictures, sees those in the middle best, skips some rows, and leaves between rows.

    The page shows rank 1 at the top left and is filled row by row. The three behaviours are those that eye tracking and
    logs of image search show: pictures in the middle of a row get more attention than those at its ends, attention
    does not fall within a row and falls slowly from row to row, and whole rows are skipped. A picture that is looked at
    can satisfy without a click, because results of image search are self-contained and clicks are rare (Xie et al.,
    SIGIR 2018). The user is satisfied after `wanted` such pictures and leaves at once.
    How strong each behaviour is depends on the page and the task. The defaults are round numbers, so compare several
    users.

    Args:
        attraction: chance of a click on a picture that is looked at, by grade from 0.
        satisfaction: chance that a picture that is looked at satisfies, by grade from 0.
        columns: pictures in a row.
        spread: σ of the middle bias, in columns: in a row that is not skipped, a picture c columns from the middle is
            looked at with chance exp(-c² / 2σ²). With infinity, all pictures are looked at. At 2, the ends of a row of
            five are looked at by six of ten users.
        skipping: chance that a row is skipped; the first row never is.
        perseverance: chance that an unsatisfied user goes on after the first row.
        slowing: factor from row to row of the chance to leave; 1 for a constant chance. Below 1, users who have read
            far are less likely to leave. Users do not leave after skipped rows.
        wanted: number of satisfying pictures that the user needs.

    Raises:
        InvalidInputError: a chance is outside 0 to 1, columns or wanted is below 1, or the spread is not above 0.

    References:
        Xie, Mao, Liu, de Rijke, Shao, Ye, Zhang & Ma, "Grid-based evaluation metrics for web image search", WWW 2019,
        for the three behaviours, there as metrics; Xie, Liu, Wang, Wang, Wu, Wu, Zhang & Ma, "Investigating examination
        behavior of image search users", SIGIR 2017, for the middle bias; Xie, Mao, de Rijke, Zhang, Zhang & Ma,
        "Constructing an interaction behavior model for web image search", SIGIR 2018, for satisfaction without clicks.
    """

    attraction: tuple[float, ...] = (0.01, 0.2)
    satisfaction: tuple[float, ...] = (0.0, 0.7)
    columns: int = 5
    spread: float = 2.0
    skipping: float = 0.2
    perseverance: float = 0.7
    slowing: float = 0.9
    wanted: int = 1

    def __post_init__(self) -> None:
        for chances in (self.attraction, self.satisfaction, (self.skipping, self.perseverance, self.slowing)):
            get_chances(chances, torch.zeros(1, dtype=torch.int64))
        check_count(self.columns, "columns")
        check_count(self.wanted, "wanted")
        if not math.isinf(self.spread):
            check_positive(self.spread, "spread")

    def read(self, grades: Tensor, generator: torch.Generator) -> Sessions:
        """Simulate one session per list of grades, int64 (n, K), shown as a page of ⌈K / columns⌉ rows."""
        places = torch.arange(grades.shape[1])
        row, ranks = places // self.columns, places + 1
        by_row = torch.Size((len(grades), int(row[-1]) + 1))
        attended = draw_uniform(by_row, generator) >= self.skipping
        attended[:, 0] = True
        looked = attended[:, row] & (draw_uniform(grades.shape, generator) < self._compute_attention(places))
        contented = looked & (draw_uniform(grades.shape, generator) < get_chances(self.satisfaction, grades))
        enough = find_first_rank(contented.cumsum(1) >= self.wanted)
        leaving = (1 - self.perseverance) * self.slowing ** torch.arange(by_row[1], dtype=torch.float64)
        tired = attended & (draw_uniform(by_row, generator) < leaving)
        end = (find_first_rank(tired) * self.columns).clamp_max(grades.shape[1])
        looked &= ranks <= torch.minimum(enough, end)[:, None]
        clicks = looked & (draw_uniform(grades.shape, generator) < get_chances(self.attraction, grades))
        return Sessions(clicks, (looked * ranks).amax(1).clamp_min(1), enough <= end)

    def _compute_attention(self, places: Tensor) -> Tensor:
        """Return the chance that the picture at each place (K,) is looked at if its row is not skipped; float64."""
        offsets = places.double() % self.columns - (self.columns - 1) / 2
        return torch.exp(-(offsets**2) / (2 * self.spread**2))
