"""Gains of one choice over another, such as joint training over its fitted start, per pipeline and paired by draw."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deephash.metrics.confidence import FEWEST_PAIRS, wilcoxon
from deephash.report.sweep_statistics import FEW_PAIRS_NOTE, holm
from deephash.report.tables import format_value, markdown_table
from deephash.validation import InvalidInputError

PIPELINE = ("method", "quantizer", "encoder")


@dataclass(frozen=True)
class Gain:
    """Mean scores of a pipeline with each of two choices, over the draws that both have.

    Args:
        pipeline: values of the columns that identify the pipeline.
        bits: code length.
        draws: number of pairs.
        before: mean score with the first choice.
        after: mean score with the second choice.
        p_value: p-value of the two-sided Wilcoxon signed-rank test; NaN for fewer than FEWEST_PAIRS draws,
            whose p-values cannot be small.
        effect: matched-pairs rank-biserial correlation (Kerby, 2014), from -1 (all draws worse) to 1 (all better).
    """

    pipeline: tuple[str, ...]
    bits: int
    draws: int
    before: float
    after: float
    p_value: float
    effect: float

    @property
    def relative(self) -> float:
        """The gain as a share of the first score."""
        return self.after / self.before - 1


def compute_gains(
    rows: Iterable[Mapping[str, Any]],
    metric: str,
    choice: str = "train",
    before: str = "fit",
    after: str = "joint",
    pipeline: Sequence[str] = PIPELINE,
) -> list[Gain]:
    """Compute the gain of each pipeline at each code length.

    Args:
        rows: result rows, as in `metrics.json`.
        metric: metric to compare.
        choice: column of the choice.
        before: its value on the first side.
        after: its value on the second side.
        pipeline: columns that must agree, besides bits, seed and split.

    Returns:
        The gains in the order in which pipelines first appear, with lengths ascending. Pipelines with fewer than 2
        common draws are left out.

    Raises:
        InvalidInputError: no pipeline has two draws with both choices, or one has two results of one draw.
    """
    scores: dict[tuple[Any, ...], dict[tuple[Any, ...], float]] = {}
    pipelines: dict[tuple[str, ...], None] = {}
    for row in rows:
        if row.get(choice) not in (before, after) or row["metrics"].get(metric) is None:
            continue
        name = tuple(str(row.get(column)) for column in pipeline)
        pipelines[name] = None
        draws = scores.setdefault((name, int(row["bits"]), row[choice]), {})
        draw = (row["seed"], row.get("split"))
        if draw in draws:
            raise InvalidInputError(
                f"{' · '.join(name)} at {row['bits']} bits has two results of seed {row['seed']} with "
                f"{choice}={row[choice]}; give one sweep, or add the column that distinguishes them to the pipeline."
            )
        draws[draw] = float(row["metrics"][metric])
    gains = []
    for name in pipelines:
        for bits in sorted({key[1] for key in scores if key[0] == name}):
            sides = [scores.get((name, bits, side), {}) for side in (before, after)]
            shared = sorted(sides[0].keys() & sides[1].keys(), key=str)
            if len(shared) >= 2:
                first, second = (np.array([side[draw] for draw in shared]) for side in sides)
                p_value = wilcoxon(second, first).p_value if len(shared) >= FEWEST_PAIRS else math.nan
                effect = rank_biserial(second - first)
                gains.append(Gain(name, bits, len(shared), first.mean(), second.mean(), p_value, effect))
    if not gains:
        raise InvalidInputError(
            f"no pipeline has two draws of both {choice}={before} and {choice}={after}; run the sweep with both."
        )
    return gains


def rank_biserial(differences: np.ndarray) -> float:
    """Return the matched-pairs rank-biserial correlation.

    It is the share that positive differences have of the sum of ranks, minus the share of negative differences.

    Args:
        differences: floating (n,). Zeros are ignored.

    Returns:
        A value from -1 to 1; 0 if all differences are 0.
    """
    from scipy import stats

    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 0.0
    ranks = stats.rankdata(np.abs(nonzero))
    return float((ranks * np.sign(nonzero)).sum() / ranks.sum())


def find_best(gains: Sequence[Gain], side: str) -> dict[int, Gain]:
    """Return the best pipeline of each code length.

    Args:
        gains: gains of several pipelines.
        side: "before" or "after", the mean to compare.
    """
    return {
        bits: max((gain for gain in gains if gain.bits == bits), key=lambda gain: float(getattr(gain, side)))
        for bits in sorted({gain.bits for gain in gains})
    }


def format_gains(gains: Sequence[Gain], before: str = "fit", after: str = "joint") -> str:
    """Format gains as Markdown, with p-values under Holm's correction and the best of each length and side in bold.

    Args:
        gains: as returned by `compute_gains`.
        before: title of the column of first scores.
        after: title of the column of second scores.
    """
    tested = [gain for gain in gains if not math.isnan(gain.p_value)]
    corrected = dict(zip(map(id, tested), holm([gain.p_value for gain in tested]), strict=True))
    best = (find_best(gains, "before"), find_best(gains, "after"))
    rows = []
    for gain in gains:
        scores = [f"{gain.before:.4f}", f"{gain.after:.4f}"]
        scores = [
            f"**{score}**" if of_side[gain.bits] is gain else score for score, of_side in zip(scores, best, strict=True)
        ]
        name = " · ".join(part for part in gain.pipeline if part not in ("identity", "None"))
        relative, p_holm = f"{100 * gain.relative:+.1f} %", format_value(corrected.get(id(gain)))
        rows.append((name, str(gain.bits), *scores, relative, f"{gain.effect:+.2f}", p_holm, str(gain.draws)))
    header = ("pipeline", "bits", before, after, "gain", "effect", "p (Holm)", "draws")
    table = markdown_table(header, rows, right=range(1, len(header)))
    return table if len(tested) == len(gains) else f"{table}\n{FEW_PAIRS_NOTE}"
