"""What one choice gains on another, pipeline by pipeline, paired by draw: joint training against its fitted start."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deephash.metrics.confidence import FEWEST_PAIRS, wilcoxon
from deephash.report.sweep_statistics import holm
from deephash.report.tables import markdown_table, text
from deephash.validation import InvalidInputError

PIPELINE = ("method", "quantizer", "encoder")


@dataclass(frozen=True)
class Gain:
    """A pipeline with one choice and with the other, over the draws that both have.

    Args:
        pipeline: its names, of the columns that tell pipelines apart.
        bits: code length.
        draws: how many pairs.
        before: mean score with the first choice.
        after: mean score with the second.
        p_value: of the two-sided Wilcoxon signed-rank test; NaN of fewer than FEWEST_PAIRS draws, of which none could
            be small.
        effect: matched-pairs rank-biserial correlation (Kerby, 2014), from -1, all draws worse, to 1, all better.
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


def paired_gains(
    rows: Iterable[Mapping[str, Any]],
    metric: str,
    choice: str = "train",
    before: str = "fit",
    after: str = "joint",
    pipeline: Sequence[str] = PIPELINE,
) -> list[Gain]:
    """The gain of each pipeline at each code length.

    Args:
        rows: result rows, as `metrics.json` holds them.
        metric: what is compared.
        choice: the column that tells the two apart.
        before: its value on one side.
        after: its value on the other.
        pipeline: columns on which both agree, beside bits, seed and split.

    Returns:
        In the order in which pipelines first come, lengths rising; those without 2 common draws are left out.

    Raises:
        InvalidInputError: no pipeline has both, or one has two results of one draw.
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
                f"{choice}={row[choice]}; give one sweep, or name what tells them apart as a column of the pipeline."
            )
        draws[draw] = float(row["metrics"][metric])
    gains = []
    for name in pipelines:
        for bits in sorted({key[1] for key in scores if key[0] == name}):
            one, other = scores.get((name, bits, before), {}), scores.get((name, bits, after), {})
            shared = sorted(one.keys() & other.keys(), key=str)
            if len(shared) >= 2:
                first, second = (np.array([side[draw] for draw in shared]) for side in (one, other))
                p_value = wilcoxon(second, first).p_value if len(shared) >= FEWEST_PAIRS else math.nan
                effect = rank_biserial(second - first)
                gains.append(Gain(name, bits, len(shared), first.mean(), second.mean(), p_value, effect))
    if not gains:
        raise InvalidInputError(
            f"no pipeline has two draws of both {choice}={before} and {choice}={after}; run the sweep with both."
        )
    return gains


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation: the share of rank sum above 0 less the share below.

    Args:
        differences: floating (n,); zeros are left out.

    Returns:
        From -1 to 1; 0 where all differences are 0.
    """
    from scipy import stats

    moved = differences[differences != 0]
    if not len(moved):
        return 0.0
    ranks = stats.rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())


def best_of(gains: Sequence[Gain], side: str) -> dict[int, Gain]:
    """The best pipeline of each code length.

    Args:
        gains: of several pipelines.
        side: "before" or "after", by whose mean.
    """
    return {
        bits: max((gain for gain in gains if gain.bits == bits), key=lambda gain: float(getattr(gain, side)))
        for bits in sorted({gain.bits for gain in gains})
    }


def gains_markdown(gains: Sequence[Gain], before: str = "fit", after: str = "joint") -> str:
    """A table of gains, p-values corrected by Holm's rule over the table; the best of each length and side is bold.

    Args:
        gains: as `paired_gains` gives.
        before: title of the first score's column.
        after: title of the second's.
    """
    tested = [gain for gain in gains if not math.isnan(gain.p_value)]
    corrected = dict(zip(map(id, tested), holm([gain.p_value for gain in tested]), strict=True))
    top, top_after = best_of(gains, "before"), best_of(gains, "after")
    rows = []
    for gain in gains:
        shown = [f"{gain.before:.4f}", f"{gain.after:.4f}"]
        for place, best in enumerate((top, top_after)):
            if best[gain.bits] is gain:
                shown[place] = f"**{shown[place]}**"
        p_holm = text(corrected.get(id(gain)))
        relative = f"{100 * gain.relative:+.1f} %"
        name = " · ".join(part for part in gain.pipeline if part not in ("identity", "None"))
        rows.append((name, str(gain.bits), *shown, relative, f"{gain.effect:+.2f}", p_holm, str(gain.draws)))
    header = ("pipeline", "bits", before, after, "gain", "effect", "p (Holm)", "draws")
    table = markdown_table(header, rows, right=range(1, len(header)))
    if len(tested) == len(gains):
        return table
    return f"{table}\nFewer than {FEWEST_PAIRS} draws have no p, since with n of them none can be below 2^(1 - n).\n"
