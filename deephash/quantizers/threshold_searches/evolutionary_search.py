"""The stochastic search of NPQ's authors: random variation of candidates, the best of which survive."""

from typing import final

import torch
from torch import Tensor

from deephash.quantizers.neighbourhood_objective import NeighbourhoodObjective
from deephash.quantizers.threshold_searches.base import ThresholdSearch
from deephash.validation import check_count

# Standard deviation of a mutation, as a fraction of the items; it falls linearly from the first to the last round.
FIRST_STEP, LAST_STEP = 0.1, 0.01


def place_cuts(places: Tensor, cuts: int) -> Tensor:
    """Return distinct cuts at positions given as fractions of the items.

    Args:
        places: float64 (m, T), in any order; values outside [0, 1) count as the nearest end.
        cuts: number of possible cuts, at least T.

    Returns:
        int64 (m, T), each row strictly ascending, between 1 and `cuts`.
    """
    count = places.shape[1]
    room = cuts - count + 1
    free = (places.sort(1).values * room).floor().long().clamp(0, room - 1)
    return free + torch.arange(1, count + 1)


@final
class EvolutionarySearch(ThresholdSearch):
    """Random candidates, then rounds of crossover and mutation in which the best of parents and children survive.

    The best candidate always survives, so J never falls from one round to the next. The authors report the kind of
    search and its size, 15 candidates and 15 rounds; the operators are our choice. A child takes each of its
    thresholds, in order, from one of two random parents, and moves it by a normal step that shrinks from a tenth of the
    items to a hundredth. Known weakness: with many thresholds, the default 240 trials leave J below the optimum that
    `ExactSearch` finds.

    Args:
        candidates: sets of thresholds in a generation.
        rounds: number of generations.

    Raises:
        InvalidInputError: a number is below 1.

    References:
        Moran, Lavrenko & Osborne, "Neighbourhood preserving quantisation for LSH", SIGIR 2013; size of the search in
        Moran, "Learning to hash for large scale image retrieval", Edinburgh, 2016, chapter 4.
    """

    def __init__(self, candidates: int = 15, rounds: int = 15) -> None:
        super().__init__()
        check_count(candidates, "candidates")
        check_count(rounds, "rounds")
        self.candidates = candidates
        self.rounds = rounds

    def _best_cuts(self, objective: NeighbourhoodObjective, count: int, generator: torch.Generator) -> Tensor:
        def random(*size: int) -> Tensor:
            return torch.rand(*size, generator=generator, dtype=torch.float64)

        places = random(self.candidates, count).sort(1).values
        scores = objective(place_cuts(places, objective.cuts))
        for step in torch.linspace(FIRST_STEP, LAST_STEP, self.rounds).tolist():
            parents = torch.randint(self.candidates, (2, self.candidates), generator=generator)
            children = torch.where(random(self.candidates, count) < 0.5, places[parents[0]], places[parents[1]])
            children += step * torch.randn(children.shape, generator=generator, dtype=torch.float64)
            # Reflect at both ends, so that candidates do not accumulate there.
            children = (1 - (1 - children.abs()).abs()).sort(1).values
            places = torch.cat([places, children])
            scores = torch.cat([scores, objective(place_cuts(children, objective.cuts))])
            best = scores.argsort(descending=True, stable=True)[: self.candidates]
            places, scores = places[best], scores[best]
        return place_cuts(places[:1], objective.cuts)[0]
