"""Runs side by side: metrics, differing settings, and paired tests between runs with the same queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deephash.data.protocols.base import Split
from deephash.data.trial import PARQUET, try_decoding
from deephash.io.files import reading
from deephash.io.run_folder import RunFolder, compare_configs
from deephash.metrics.confidence import FEWEST_PAIRS, wilcoxon
from deephash.report.paired_gains import rank_biserial
from deephash.report.summary import is_comparison, order_metrics
from deephash.report.sweep_statistics import holm
from deephash.validation import InvalidInputError, check_choice

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class PairedDifference:
    """Test of the first run against another, paired by query.

    Args:
        run: folder of the other run.
        queries: number of pairs.
        difference: mean of the other run's scores minus the first run's.
        p_value: p-value of the two-sided Wilcoxon signed-rank test, with Holm's correction over the runs compared.
        effect: matched-pairs rank-biserial correlation, 1 if the other run is better for every query.
    """

    run: str
    queries: int
    difference: float
    p_value: float
    effect: float


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs.

    Args:
        runs: folders of the runs.
        metrics: name → value for each run, None if a run lacks the metric.
        settings: dotted name → value for each run, of the settings that differ.
        metric: metric of the tests.
        tests: tests of the first run against each other run with the same queries.
        untested: folders of the runs without a test, with the reason.
    """

    runs: list[str]
    metrics: dict[str, list[float | None]]
    settings: dict[str, list[Any]]
    metric: str
    tests: list[PairedDifference]
    untested: dict[str, str]


def compare_runs(folders: Sequence[Path], metric: str = "mAP") -> Comparison:
    """Compare complete runs: the first with each of the others.

    Args:
        folders: folders of at least two runs.
        metric: metric of the tests, a column of per_query.parquet.

    Raises:
        InvalidInputError: there are fewer than two runs, a run is not complete, or the first run lacks the metric.
    """
    if len(folders) < 2:
        raise InvalidInputError(f"{len(folders)} run is given; compare takes at least two.")
    runs = [RunFolder(folder) for folder in folders]
    for run in runs:
        run.check_complete()
    rows = [run.read_row() for run in runs]
    metrics = [dict(order_metrics(row)) for row in rows]
    names = list(dict.fromkeys(name for of_run in metrics for name in of_run if not is_comparison(name)))
    scores = [read_scores(run) for run in runs]
    check_choice(metric, [name for name in scores[0].columns if name not in ("query", "direction")], "metric")
    tests, untested = run_tests(runs, rows, scores, metric)
    return Comparison(
        [str(folder) for folder in folders],
        {name: [of_run.get(name) for of_run in metrics] for name in names},
        find_differing_settings(runs),
        metric,
        tests,
        untested,
    )


def find_differing_settings(runs: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """Return the settings in which any run differs from the first, with the value of every run."""
    configs = [run.read_config(to_build=False) for run in runs]
    settings: dict[str, list[Any]] = {}
    for place, config in enumerate(configs[1:], 1):
        for name, first, value in compare_configs(configs[0], config):
            settings.setdefault(name, [first] * len(configs))[place] = value
    return settings


def read_scores(run: RunFolder) -> "polars.DataFrame":
    """Read the scores of each query of a run.

    Raises:
        InvalidInputError: the table is missing or damaged.
    """
    import polars

    path = run.path / "per_query.parquet"
    run.check_file(path.name)
    with reading(path, "scores by query", "restore it, or evaluate the run again"):
        try_decoding(PARQUET, path)
        return polars.read_parquet(path, glob=False)


def run_tests(
    runs: Sequence[RunFolder], rows: Sequence[dict[str, Any]], scores: "Sequence[polars.DataFrame]", metric: str
) -> tuple[list[PairedDifference], dict[str, str]]:
    """Return tests of the first run against each of the others, and the reasons why some runs have none."""
    untested: dict[str, str] = {}
    tested = []
    for run, row, table in zip(runs[1:], rows[1:], scores[1:], strict=True):
        path = str(run.path)
        reason = explain_differing_data(runs[0], run, rows[0], row)
        reason = reason or explain_differing_queries(scores[0], table, metric)
        if reason:
            untested[path] = reason
            continue
        first, second = (side[metric].fill_null(float("nan")).to_numpy() for side in (scores[0], table))
        pairs = int(np.isfinite(second).sum())
        if pairs < FEWEST_PAIRS:
            untested[path] = f"{pairs} queries; p below .05 needs at least {FEWEST_PAIRS}"
            continue
        p_value = wilcoxon(second, first).p_value
        differences = second - first
        differences = differences[~np.isnan(differences)]  # Queries without a relevant item are NaN in both.
        tested.append((path, differences, p_value))
    corrected = holm([p_value for _, _, p_value in tested]) if tested else []
    tests = [
        PairedDifference(path, len(differences), float(differences.mean()), p_value, rank_biserial(differences))
        for (path, differences, _), p_value in zip(tested, corrected, strict=True)
    ]
    return tests, untested


def explain_differing_data(first: RunFolder, second: RunFolder, row: dict[str, Any], second_row: dict[str, Any]) -> str:
    """Explain why two runs do not rank the same queries and database; empty if they do.

    Training items may differ, and so may features if labels define relevance. Digests of the data, if runs have
    them, show whether items differ.
    """
    for name in ("data", "truth", "score"):
        if row.get(name) != second_row.get(name):
            return f"another {name}"
    if not (first.split.exists() and second.split.exists()):
        return "" if row.get("split") == second_row.get("split") else "another split"
    split, second_split = Split.load(first.split), Split.load(second.split)
    prefix = "validation_" if row.get("score") == "validation" else ""
    for part in ("query", "database"):
        ids, second_ids = (getattr(side, prefix + part) for side in (split, second_split))
        # Queries held out of the training part are in no part of the split.
        if not np.array_equal(ids, second_ids) or (len(ids) == 0 and split.hash != second_split.hash):
            return "another split"
    differing = [part for part in ("features", "labels") if _differ(split.digests, second_split.digests, part)]
    settings = [run.read_config(to_build=False).get("data") for run in (first, second)]
    if "labels" in differing or (differing and settings[0] == settings[1]):
        return f"other {differing[-1]} in data={row.get('data')}"
    if differing and not (split.digests["labels"] and row.get("truth") == "label"):
        return f"other features, on which truth={row.get('truth')} depends"
    return ""


def _differ(digests: Mapping[str, str], second_digests: Mapping[str, str], part: str) -> bool:
    """Return whether two runs have different digests of a part."""
    return part in digests and part in second_digests and digests[part] != second_digests[part]


def explain_differing_queries(scores: "polars.DataFrame", second: "polars.DataFrame", metric: str) -> str:
    """Explain why two tables of scores cannot be paired by query; empty if they can."""
    if metric not in second.columns:
        return f"no {metric} by query"
    keys = [name for name in ("query", "direction") if name in scores.columns]
    if any(name not in second.columns for name in keys) or not scores.select(keys).equals(second.select(keys)):
        return "other queries"
    nulls = scores[metric].is_null() != second[metric].is_null()
    return "other queries without a relevant item" if nulls.any() else ""
