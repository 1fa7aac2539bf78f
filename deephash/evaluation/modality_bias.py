"""Modality bias: how unequally a shared code space treats its views."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deephash.codes import unpack
from deephash.evaluation.scoring import ScoreSettings, score_counts
from deephash.evaluation.view_scores import Evaluation, direction_name
from deephash.ranking.base import RankingEngine
from deephash.ranking.distance import Distance
from deephash.ranking.relevance import SharedLabel
from deephash.validation import InvalidInputError

# Depth k: number of nearest items, in a database of both views, whose views are counted.
BIAS_DEPTH = 50
# Pairs compared per block.
BLOCK_PAIRS = 1 << 16
# A larger gap in mAP between directions, as a share of the better one, causes a warning.
LARGE_GAP = 0.25
# A warning is given if the share of a view among the first ranks exceeds its share of the database by more than this.
LARGE_SURPLUS = 0.2
# A warning is given if the two codes of a pair agree in less than this share of bits above chance.
SMALL_AGREEMENT = 0.05


@dataclass(frozen=True)
class ModalityBias:
    """Differences between views in one code space.

    Args:
        mean_average_precision: mAP by direction, such as "image_to_text".
        depth: depth k of the shares.
        own_share: for each view of queries, the share of the first k items that are of the same view, in a database of
            both views; an expectation over all orders of tied items.
        database_share: for each view, its share of that database: the value of `own_share` by chance.
        bit_agreement: float64 (b,), share of the pairs of the database whose codes agree in each bit.
        chance_agreement: float64 (b,), the share for items paired at random, given the share of ones in each view; .5
            if the bit is balanced in either view.
    """

    mean_average_precision: dict[str, float]
    depth: int
    own_share: dict[str, float]
    database_share: dict[str, float]
    bit_agreement: Tensor
    chance_agreement: Tensor

    @property
    def gap(self) -> float:
        """Difference of mAP between the better and the worse direction across views, as a share of the better."""
        across = self._select_across()
        best = max(across.values())
        return 0.0 if best == 0 else 1 - min(across.values()) / best

    def _select_across(self) -> dict[str, float]:
        """Return the scores of the directions between different views."""
        return {
            direction: score
            for direction, score in self.mean_average_precision.items()
            if len(set(direction.split("_to_"))) > 1
        }

    def warnings(self) -> list[str]:
        """Return a line for each sign of bias, with its value and a remedy."""
        lines = []
        if self.gap > LARGE_GAP:
            names = self._select_across()
            worst, best = min(names, key=names.__getitem__), max(names, key=names.__getitem__)
            lines.append(
                f"modality bias: {worst} has mAP {names[worst]:.4f} and {best} {names[best]:.4f}, {self.gap:.0%} "
                "apart; give the weaker view better features, or weigh the views in the method."
            )
        for view, share in self.own_share.items():
            surplus = share - self.database_share[view]
            if surplus > LARGE_SURPLUS:
                lines.append(
                    f"modality bias: for queries of {view}, {share:.0%} of the first {self.depth} items are also of "
                    f"{view}, which is {self.database_share[view]:.0%} of the database; search one view at a time, or "
                    "choose a method that brings the views of a pair together."
                )
        agreement, chance = float(self.bit_agreement.mean()), float(self.chance_agreement.mean())
        if agreement - chance < SMALL_AGREEMENT:
            lines.append(
                f"modality bias: the two views of a pair agree in {agreement:.0%} of their bits, where chance gives "
                f"{chance:.0%}; use fewer bits, or a method that brings the views of a pair together."
            )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return all values as JSON values."""
        return {
            "mAP": self.mean_average_precision,
            "gap": self.gap,
            "depth": self.depth,
            "own_share": self.own_share,
            "database_share": self.database_share,
            "bit_agreement": float(self.bit_agreement.mean()),
            "chance_agreement": float(self.chance_agreement.mean()),
            "bit_agreement_by_bit": self.bit_agreement.tolist(),
        }


def measure_bias(evaluation: Evaluation) -> ModalityBias:
    """Measure how the views of a scored hasher differ in its code space."""
    codes = {view: items.codes for view, items in evaluation.database.items()}
    total = sum(map(len, codes.values()))
    depth, distance = min(BIAS_DEPTH, total), evaluation.hasher.distance
    first, second = evaluation.database.values()
    # Codes of the items that have both views, in the same order.
    paired = [torch.isin(first.positions, second.positions), torch.isin(second.positions, first.positions)]
    agreement, chance = bit_agreement(first.codes[paired[0]], second.codes[paired[1]], distance.code_bits)
    scores = {direction_name(*views): found.results["mAP"] for views, found in evaluation.scores.items()}
    return ModalityBias(
        mean_average_precision=scores,
        depth=depth,
        own_share={
            view: own_view_share(items.codes, codes, view, distance, evaluation.ranking, depth)
            for view, items in evaluation.queries.items()
        },
        database_share={view: len(of_view) / total for view, of_view in codes.items()},
        bit_agreement=agreement,
        chance_agreement=chance,
    )


def own_view_share(
    queries: Tensor, database: Mapping[str, Tensor], view: str, distance: Distance, engine: RankingEngine, depth: int
) -> float:
    """Return the mean share of a view among the first k of a database of all views, for queries of that view.

    It is the tie-aware precision@k with items of the query's view as relevant.

    Args:
        queries: packed codes uint8 (q, B) of one view.
        database: packed codes (m, B) by view.
        view: view of the queries.
        distance: distance of the codes.
        engine: ranking engine.
        depth: k, at most the size of the mixed database.

    Raises:
        InvalidInputError: the depth exceeds the size of the database.
    """
    numbers = {name: number for number, name in enumerate(database)}
    mixed = torch.cat(tuple(database.values()))
    if depth > len(mixed):
        raise InvalidInputError(f"depth={depth} exceeds the {len(mixed)} codes of both views; lower it.")
    item_views = torch.cat([torch.full((len(codes),), numbers[name]) for name, codes in database.items()])
    query_views = torch.full((len(queries),), numbers[view])
    relevance = SharedLabel(query_views.to(queries.device), item_views.to(queries.device))
    counts = engine.rank(queries, mixed, distance, relevance)
    return score_counts(counts, ScoreSettings(at=(depth,))).results[f"precision@{depth}"]


def bit_agreement(first: Tensor, second: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return the share of pairs whose codes agree in each bit, and the share by chance.

    Args:
        first: packed codes uint8 (n, B) of one view.
        second: packed codes of the same n items in the other view.
        bits: code length b.

    Returns:
        Agreement of pairs, and of items paired at random: float64 (b,), NaN without pairs.
    """
    agreeing, ones, second_ones = torch.zeros(3, bits, dtype=torch.float64).unbind()
    for block, second_block in zip(torch.split(first, BLOCK_PAIRS), torch.split(second, BLOCK_PAIRS), strict=True):
        values, second_values = unpack(block, bits), unpack(second_block, bits)
        agreeing += (values == second_values).sum(0).cpu()
        ones += values.sum(0).cpu()
        second_ones += second_values.sum(0).cpu()
    n = len(first) or torch.nan
    share, second_share = ones / n, second_ones / n
    return agreeing / n, share * second_share + (1 - share) * (1 - second_share)
