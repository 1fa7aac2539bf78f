"""Whether a shared code space treats its views alike: the gap between directions, and who crowds whom out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deephash.codes import unpack
from deephash.metrics.hamming_retrieval import HammingRetrieval
from deephash.ranking.base import RankingEngine
from deephash.ranking.distance import Distance
from deephash.ranking.relevance import SharedLabel
from deephash.validation import InvalidInputError

# Pairs whose bits are compared at a time.
BLOCK_PAIRS = 1 << 16
# Directions whose mAP differ by more than this share of the better one are far apart.
LARGE_GAP = 0.25
# A view that takes this much more of the first places than it has of the database crowds the other out.
LARGE_SURPLUS = 0.2
# Bits of pairs that agree this little more often than those of any two items would say nothing of pairs.
SMALL_AGREEMENT = 0.05


@dataclass(frozen=True)
class ModalityBias:
    """How views differ in one code space.

    Args:
        mean_average_precision: mAP by direction, as "image_to_text".
        depth: the k of the shares.
        own_share: by the view that asks, the share of its own view among the first k of a database of both views,
            expected over all orders of tied items.
        database_share: by view, its share of that database, which is what chance gives.
        bit_agreement: float64 (b,), share of the database's pairs whose two codes agree in each bit.
        chance_agreement: float64 (b,), the share that any image with any text would come to, given how many of each
            view have the bit; .5 where either view's bit is balanced.
    """

    mean_average_precision: dict[str, float]
    depth: int
    own_share: dict[str, float]
    database_share: dict[str, float]
    bit_agreement: Tensor
    chance_agreement: Tensor

    @property
    def gap(self) -> float:
        """How far the worse direction across views lies below the better, as a share of the better one's mAP."""
        across = self._across()
        best = max(across.values())
        return 0.0 if best == 0 else 1 - min(across.values()) / best

    def _across(self) -> dict[str, float]:
        """Scores of the directions in which one view asks and another is searched."""
        return {
            direction: score
            for direction, score in self.mean_average_precision.items()
            if len(set(direction.split("_to_"))) > 1
        }

    def warnings(self) -> list[str]:
        """A line for each sign of bias, with its figure and what to do."""
        lines = []
        if self.gap > LARGE_GAP:
            names = self._across()
            worst, best = min(names, key=names.__getitem__), max(names, key=names.__getitem__)
            lines.append(
                f"modality bias: {worst} has mAP {names[worst]:.4f} and {best} {names[best]:.4f}, {self.gap:.0%} "
                "apart; give the weaker view better features, or weigh the views in the method."
            )
        for view, share in self.own_share.items():
            surplus = share - self.database_share[view]
            if surplus > LARGE_SURPLUS:
                lines.append(
                    f"modality bias: queries of {view} find {share:.0%} of their own view among the first "
                    f"{self.depth} of a database in which it has {self.database_share[view]:.0%}; search one "
                    "view at a time, or choose a method that brings the views of a pair together."
                )
        agreement, chance = float(self.bit_agreement.mean()), float(self.chance_agreement.mean())
        if agreement - chance < SMALL_AGREEMENT:
            lines.append(
                f"modality bias: the two views of a pair agree in {agreement:.0%} of their bits, where chance gives "
                f"{chance:.0%}; use fewer bits, or a method that brings the views of a pair together."
            )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
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


def own_view_share(
    queries: Tensor, database: Mapping[str, Tensor], view: str, distance: Distance, engine: RankingEngine, depth: int
) -> float:
    """The share of a view among the first k of a database of all views, tie-aware, mean over the view's queries.

    It is precision@k where relevance is to be of the query's own view.

    Args:
        queries: packed codes uint8 (q, B) of one view.
        database: packed codes (m, B) by view.
        view: the queries' view.
        distance: of the codes.
        engine: what ranks.
        depth: k, at most the size of the mixed database.

    Raises:
        InvalidInputError: a depth beyond the database.
    """
    numbers = {name: number for number, name in enumerate(database)}
    mixed = torch.cat(tuple(database.values()))
    if depth > len(mixed):
        raise InvalidInputError(f"depth={depth} exceeds the {len(mixed)} codes of both views; lower it.")
    of_item = torch.cat([torch.full((len(codes),), numbers[name]) for name, codes in database.items()])
    of_query = torch.full((len(queries),), numbers[view])
    relevance = SharedLabel(of_query.to(queries.device), of_item.to(queries.device))
    # One process writes the report: the others would never come to add theirs up.
    metric = HammingRetrieval(distance.maximum, at=(depth,), sync_on_compute=False).to(queries.device)
    metric.update(engine.rank(queries, mixed, distance, relevance), torch.arange(len(queries), device=queries.device))
    return float(metric.compute()[f"precision@{depth}"])


def bit_agreement(first: Tensor, second: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Share of pairs whose codes agree, bit by bit, and what chance would give.

    Args:
        first: packed codes uint8 (n, B) of one view.
        second: of the same n items in the other view.
        bits: code length b.

    Returns:
        Agreement, and the agreement of items paired at random: float64 (b,), NaN where there are no pairs.
    """
    agreeing, ones, other_ones = torch.zeros(3, bits, dtype=torch.float64).unbind()
    for one, other in zip(torch.split(first, BLOCK_PAIRS), torch.split(second, BLOCK_PAIRS), strict=True):
        one_bits, other_bits = unpack(one, bits), unpack(other, bits)
        for count, counted in ((agreeing, one_bits == other_bits), (ones, one_bits), (other_ones, other_bits)):
            count += counted.sum(0).cpu()
    n = len(first) or torch.nan
    share, other_share = ones / n, other_ones / n
    return agreeing / n, share * other_share + (1 - share) * (1 - other_share)
