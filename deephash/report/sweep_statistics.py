"""Statistics of a sweep: means with intervals over seeds, tests between methods, and warnings."""

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from deephash.metrics.confidence import FEWEST_PAIRS, mean_interval, wilcoxon
from deephash.report.failure_signatures import find_flat_scores
from deephash.report.sweep_runs import GROUP, SETTING, metric_names
from deephash.validation import InvalidInputError, check_choice

if TYPE_CHECKING:
    import polars

LINE = ("method", "quantizer", "settings")
FEW_PAIRS_NOTE = f"Fewer than {FEWEST_PAIRS} pairs have no p-value: with n pairs, none can be below 2^(1 - n).\n"


def select_done_runs(runs: "polars.DataFrame", metric: str | None = None) -> "polars.DataFrame":
    """Return the runs that are done and, if a metric is given, have a value of it.

    Args:
        runs: as returned by `collect`.
        metric: metric that the runs must have.

    Raises:
        InvalidInputError: no run is done, or no run has the metric.
    """
    import polars

    done = runs.filter(polars.col("status") == "done")
    if done.is_empty():
        reason = next((error for error in runs["error"].to_list() if error), "nothing")
        raise InvalidInputError(f"0 of {runs.height} runs are done; fix the failed runs. The first reported: {reason}")
    if metric is None:
        return done
    check_choice(metric, metric_names(runs), "metric")
    return done.filter(polars.col(metric).is_not_null() & polars.col(metric).is_not_nan())


def aggregate(runs: "polars.DataFrame", metric: str | None = None) -> "polars.DataFrame":
    """Return the mean and 95 % interval over seeds of each metric in each group of runs.

    Args:
        runs: as returned by `collect`. Runs that are not done are left out.
        metric: return only the rows of this metric; None returns all.

    Returns:
        The columns GROUP, then `metric`, `seeds` (runs with a value), `mean`, `low`, `high` (the interval of the mean
        by Student's t; null for a single seed) and `skipped_queries` (mean over the runs), in the order of GROUP.

    Raises:
        InvalidInputError: no run is done, or no run has the metric.
    """
    import polars

    rows: list[dict[str, Any]] = []
    if metric is not None:
        select_done_runs(runs, metric)
    for key, group in select_done_runs(runs).sort(GROUP, nulls_last=True).group_by(GROUP, maintain_order=True):
        skipped = group["skipped_queries"].mean()
        for name in metric_names(runs) if metric is None else [metric]:
            values = group[name].drop_nulls().drop_nans().to_numpy()
            if len(values) == 0:
                continue
            interval = mean_interval(values) if len(values) > 1 else None
            low, high = (None, None) if interval is None else (interval.low, interval.high)
            statistics = {"metric": name, "seeds": len(values), "mean": float(values.mean()), "low": low, "high": high}
            rows.append(dict(zip(GROUP, key, strict=True)) | statistics | {"skipped_queries": skipped})
    columns = (*GROUP, "metric", "seeds", "mean", "low", "high", "skipped_queries")
    return polars.DataFrame(rows, schema=_list_column_types(*columns))


def compare(runs: "polars.DataFrame", metric: str = "mAP") -> "polars.DataFrame":
    """Run paired Wilcoxon signed-rank tests between the methods of a sweep, over the seeds that two methods share.

    Args:
        runs: as returned by `collect`.
        metric: metric to compare.

    Returns:
        One row for each pair of methods with the same setting and code length that share at least two seeds on the
        same split: the columns SETTING and `bits`, `first`, `second`, `seeds` (shared), `difference` (mean of first
        minus second), `p_value` (two-sided) and `p_holm` (corrected for the tests of that setting and length, Holm
        1979). Both p-values are null for fewer than FEWEST_PAIRS seeds, which cannot give small ones.

    Raises:
        InvalidInputError: no run is done, or no run has the metric.
    """
    import polars

    rows: list[dict[str, Any]] = []
    done = select_done_runs(runs, metric)
    for key, group in done.sort(GROUP, nulls_last=True).group_by((*SETTING, "bits"), maintain_order=True):
        tests = []
        # Scores are paired by their draw: the seed, and the split if it is known.
        lines = {
            format_line(line): {
                (seed, split): score for seed, split, score in part.select("seed", "split", metric).rows()
            }
            for line, part in group.group_by(LINE, maintain_order=True)
        }
        for first, second in combinations(lines, 2):
            shared = sorted(lines[first].keys() & lines[second].keys())
            if len(shared) < 2:
                continue
            scores, others = (np.array([lines[name][draw] for draw in shared]) for name in (first, second))
            tests.append(
                dict(zip((*SETTING, "bits"), key, strict=True))
                | {"first": first, "second": second, "seeds": len(shared)}
                | {"difference": float((scores - others).mean()), "p_holm": None}
                | {"p_value": wilcoxon(scores, others).p_value if len(shared) >= FEWEST_PAIRS else None}
            )
        tested = [test for test in tests if test["p_value"] is not None]
        for test, corrected in zip(tested, holm([test["p_value"] for test in tested]), strict=True):
            test["p_holm"] = corrected
        rows += tests
    columns = (*SETTING, "bits", "first", "second", "seeds", "difference", "p_value", "p_holm")
    return polars.DataFrame(rows, schema=_list_column_types(*columns))


def holm(p_values: list[float]) -> list[float]:
    """Return p-values after Holm's step-down correction (Scandinavian Journal of Statistics 1979), in their order."""
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def format_line(line: tuple[Any, ...]) -> str:
    """Name a line of tables and figures by method, quantiser and settings, such as "itq · sbq"."""
    method, quantizer, settings = line
    return " · ".join(part for part in (method, quantizer, settings) if part)


def find_warnings(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> list[str]:
    """Return warnings about a sweep, one line each.

    Args:
        runs: as returned by `collect`.
        metric: metric checked for variation with code length.
        over: as passed to `collect`; scores are checked for variation only if it is "bits".

    Returns:
        Jobs that do not count, with the reason; methods whose scores hardly vary with code length; and warnings of
        the runs, each once with the number of runs that gave it.
    """
    import polars

    lines = []
    for status, folder, error in runs.filter(polars.col("status") != "done").select("status", "folder", "error").rows():
        lines.append(f"{status}: {folder}: {error}")
    if over == "bits" and (runs["status"] == "done").any() and metric in metric_names(runs):
        for key, group in aggregate(runs, metric).group_by((*SETTING, *LINE), maintain_order=True):
            flat = find_flat_scores(dict(group.select("bits", "mean").rows()), metric)
            if flat is not None:
                lines.append(f"{format_line(key[len(SETTING) :])}: {flat}")
    done = runs.filter(polars.col("status") == "done").select("method", "bits", "warnings").rows()
    lengths: dict[tuple[str, str], list[int]] = {}
    for method, bits, warnings in done:
        for kind in {warning.split(":")[0] for warning in warnings or []}:
            lengths.setdefault((method, kind), []).append(bits)
    for (method, kind), of_runs in sorted(lengths.items()):
        at = ", ".join(map(str, sorted(set(of_runs)))) + (" bits" if over == "bits" else f" of {over}")
        count, whose = (f"{len(of_runs)} runs", "their") if len(of_runs) > 1 else ("1 run", "its")
        lines.append(f"{method}: {kind}, in {count}, at {at}; see warnings in {whose} metrics.json.")
    return lines


def _list_column_types(*columns: str) -> "dict[str, type[polars.DataType]]":
    """Return the type of each column: text, except for counts and measurements."""
    import polars

    measured = ("mean", "low", "high", "skipped_queries", "difference", "p_value", "p_holm")
    counted = ("bits", "seeds")
    return {
        name: polars.Int64 if name in counted else polars.Float64 if name in measured else polars.String
        for name in columns
    }
