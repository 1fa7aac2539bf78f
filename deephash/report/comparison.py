"""Runs side by side: figures, the settings that tell them apart, and paired tests where the queries are the same."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deephash.data.protocols.base import Split
from deephash.data.trial import PARQUET, try_decoding
from deephash.io.files import reading
from deephash.io.run_folder import RunFolder, differing_settings
from deephash.metrics.confidence import FEWEST_PAIRS, wilcoxon
from deephash.report.paired_gains import rank_biserial
from deephash.report.summary import is_comparison, ordered_metrics
from deephash.report.sweep_statistics import holm
from deephash.validation import InvalidInputError, check_choice

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class PairedDifference:
    """The first run against another, paired by query.

    Args:
        run: the other's folder.
        queries: number of pairs.
        difference: mean of the other's scores less the first's.
        p_value: of the two-sided Wilcoxon signed-rank test, corrected by Holm's rule over the runs compared.
        effect: matched-pairs rank-biserial correlation, 1 where the other is better for every query.
    """

    run: str
    queries: int
    difference: float
    p_value: float
    effect: float


@dataclass(frozen=True)
class Comparison:
    """What a comparison gives.

    Args:
        runs: their folders.
        metrics: name → each run's figure, None where it has none.
        settings: dotted name → each run's value, of those that differ.
        metric: what the tests compare.
        tests: of the first run against each other; those whose queries differ are left out.
        untested: folders of the others, with the reason.
    """

    runs: list[str]
    metrics: dict[str, list[float | None]]
    settings: dict[str, list[Any]]
    metric: str
    tests: list[PairedDifference]
    untested: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def compare_runs(folders: Sequence[Path], metric: str = "mAP") -> Comparison:
    """Compare complete runs, the first with each other.

    Args:
        folders: at least two.
        metric: of each query, as the columns of per_query.parquet; the tests compare it.

    Raises:
        InvalidInputError: fewer than two runs, one that is not complete, or a metric that the first does not have.
    """
    if len(folders) < 2:
        raise InvalidInputError(f"{len(folders)} run is given; compare takes at least two.")
    runs = [RunFolder(folder) for folder in folders]
    for run in runs:
        run.check_complete()
    rows = [run.read_row() for run in runs]
    figures = [dict(ordered_metrics(row)) for row in rows]
    names = list(dict.fromkeys(name for figure in figures for name in figure if not is_comparison(name)))
    scores = [read_scores(run) for run in runs]
    check_choice(metric, [name for name in scores[0].columns if name not in ("query", "direction")], "metric")
    tests, untested = paired(runs, rows, scores, metric)
    return Comparison(
        [str(folder) for folder in folders],
        {name: [figure.get(name) for figure in figures] for name in names},
        settings_apart(runs),
        metric,
        tests,
        untested,
    )


def settings_apart(runs: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """The settings on which any run differs from the first, with every run's value."""
    configs = [run.read_config(to_build=False) for run in runs]
    apart: dict[str, list[Any]] = {}
    for place, config in enumerate(configs[1:], 1):
        for name, first, value in differing_settings(configs[0], config):
            apart.setdefault(name, [first] * len(configs))[place] = value
    return apart


def read_scores(run: RunFolder) -> "polars.DataFrame":
    """What each query of a run scored.

    Raises:
        InvalidInputError: a missing or damaged table.
    """
    import polars

    path = run.path / "per_query.parquet"
    run.check_file(path.name)
    with reading(path, "scores by query", "restore it, or evaluate the run again"):
        try_decoding(PARQUET, path)
        return polars.read_parquet(path, glob=False)


def paired(
    runs: Sequence[RunFolder], rows: Sequence[dict[str, Any]], scores: "Sequence[polars.DataFrame]", metric: str
) -> tuple[list[PairedDifference], dict[str, str]]:
    """Tests of the first run against each other, and why some have none."""
    untested: dict[str, str] = {}
    found = []
    for run, row, table in zip(runs[1:], rows[1:], scores[1:], strict=True):
        reason = differing_data(runs[0], run, rows[0], row) or differing_queries(scores[0], table, metric)
        if reason:
            untested[str(run.path)] = reason
            continue
        first, other = (side[metric].fill_null(float("nan")).to_numpy() for side in (scores[0], table))
        pairs = int(np.isfinite(other).sum())
        if pairs < FEWEST_PAIRS:
            untested[str(run.path)] = f"{pairs} queries, of {FEWEST_PAIRS} that a p below .05 needs at least"
            continue
        outcome = wilcoxon(other, first)
        differences = other - first
        differences = differences[differences == differences]  # Queries without a relevant item are NaN in both.
        found.append((str(run.path), len(differences), float(differences.mean()), outcome.p_value, differences))
    corrected = holm([entry[3] for entry in found]) if found else []
    tests = [
        PairedDifference(path, queries, mean, p_value, rank_biserial(differences))
        for (path, queries, mean, _, differences), p_value in zip(found, corrected, strict=True)
    ]
    return tests, untested


def differing_data(first: RunFolder, other: RunFolder, row: dict[str, Any], others: dict[str, Any]) -> str:
    """Why two runs were not asked the same; empty where they were.

    They may have been trained on other items, and on other features of the same items where labels say what is
    relevant. What cannot be the same items is known by the digests of the data, of runs that noted them.
    """
    for name in ("data", "truth", "score"):
        if row.get(name) != others.get(name):
            return f"another {name}"
    if not (first.split.exists() and other.split.exists()):
        return "" if row.get("split") == others.get("split") else "another split"
    one, two = Split.load(first.split), Split.load(other.split)
    prefix = "validation_" if row.get("score") == "validation" else ""
    for part in ("query", "database"):
        asked, others_asked = (getattr(split, prefix + part) for split in (one, two))
        # Queries that were held out of the training part are in no part of the split.
        if not np.array_equal(asked, others_asked) or (len(asked) == 0 and one.hash != two.hash):
            return "another split"
    differing = [part for part in ("features", "labels") if _differ(one.digests, two.digests, part)]
    settings = [run.read_config(to_build=False).get("data") for run in (first, other)]
    if "labels" in differing or (differing and settings[0] == settings[1]):
        return f"other {differing[-1]} in data={row.get('data')}"
    if differing and not (one.digests["labels"] and row.get("truth") == "label"):
        return f"other features, by which truth={row.get('truth')} says what is relevant"
    return ""


def _differ(one: Mapping[str, str], two: Mapping[str, str], part: str) -> bool:
    """Whether two runs noted other data; not where one of them noted none."""
    return part in one and part in two and one[part] != two[part]


def differing_queries(scores: "polars.DataFrame", others: "polars.DataFrame", metric: str) -> str:
    """Why two tables of scores cannot be paired by query; empty where they can."""
    if metric not in others.columns:
        return f"no {metric} by query"
    keys = [name for name in ("query", "direction") if name in scores.columns]
    if any(name not in others.columns for name in keys) or not scores.select(keys).equals(others.select(keys)):
        return "other queries"
    nulls = scores[metric].is_null() != others[metric].is_null()
    return "other queries without a relevant item" if nulls.any() else ""
