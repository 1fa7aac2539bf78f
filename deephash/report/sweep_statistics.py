"""What a sweep's runs come to: means with intervals over seeds, tests between methods, and what looks wrong."""

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from deephash.metrics.confidence import FEWEST_PAIRS, mean_interval, wilcoxon
from deephash.report.failure_signatures import flat_scores
from deephash.report.sweep_runs import GROUP, SETTING, metric_names
from deephash.validation import InvalidInputError, check_choice

if TYPE_CHECKING:
    import polars

LINE = ("method", "quantizer", "settings")


def done_runs(runs: "polars.DataFrame", metric: str | None = None) -> "polars.DataFrame":
    """The runs that count.

    Args:
        runs: as `collect` gives.
        metric: a metric that they must have; None asks for none.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    import polars

    done = runs.filter(polars.col("status") == "done")
    if done.is_empty():
        reason = next((error for error in runs["error"].to_list() if error), "nothing")
        raise InvalidInputError(f"0 of {runs.height} runs are done; repair what stopped them. The first said: {reason}")
    if metric is not None:
        check_choice(metric, metric_names(runs), "metric")
    return done


def aggregate(runs: "polars.DataFrame") -> "polars.DataFrame":
    """Mean and 95 % interval over seeds of every metric of every group of runs.

    Args:
        runs: as `collect` gives; runs that are not done are left out.

    Returns:
        The columns GROUP, then `metric`, `seeds` (runs with a value), `mean`, `low`, `high` (the interval of the mean
        by Student's t; null for a single seed) and `skipped_queries` (mean over the runs), in the order of GROUP.

    Raises:
        InvalidInputError: where no run is done.
    """
    import polars

    rows: list[dict[str, Any]] = []
    done = done_runs(runs)
    for key, group in done.sort(GROUP, nulls_last=True).group_by(GROUP, maintain_order=True):
        skipped = group["skipped_queries"].mean()
        for metric in metric_names(runs):
            values = group[metric].drop_nulls().drop_nans().to_numpy()
            if len(values) == 0:
                continue
            interval = mean_interval(values) if len(values) > 1 else None
            ends = (None, None) if interval is None else (interval.low, interval.high)
            counted = {"metric": metric, "seeds": len(values), "mean": float(values.mean())}
            counted |= dict(zip(("low", "high"), ends, strict=True))
            rows.append(dict(zip(GROUP, key, strict=True)) | counted | {"skipped_queries": skipped})
    return polars.DataFrame(rows, schema=_kinds(*GROUP, "metric", "seeds", "mean", "low", "high", "skipped_queries"))


def compare(runs: "polars.DataFrame", metric: str = "mAP") -> "polars.DataFrame":
    """Paired Wilcoxon signed-rank tests between the methods of a sweep, over the seeds that two of them share.

    Args:
        runs: as `collect` gives.
        metric: what is compared.

    Returns:
        One row for each two methods under one setting and code length that share at least two seeds on the same
        split: the columns SETTING and `bits`, `first`, `second`, `seeds` (shared), `difference` (mean of first less
        second), `p_value` (two-sided) and `p_holm` (corrected for the tests of that setting and length, Holm 1979).
        Both are null of fewer than FEWEST_PAIRS seeds, of which no p could be small.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    import polars

    rows: list[dict[str, Any]] = []
    done = done_runs(runs, metric).filter(polars.col(metric).is_not_null() & polars.col(metric).is_not_nan())
    for key, group in done.sort(GROUP, nulls_last=True).group_by((*SETTING, "bits"), maintain_order=True):
        tests = []
        # A pair is the same draw: the same seed, and the same split where it is known.
        lines = {line_name(line): _by_draw(part, metric) for line, part in group.group_by(LINE, maintain_order=True)}
        for first, second in combinations(lines, 2):
            shared = sorted(lines[first].keys() & lines[second].keys())
            if len(shared) < 2:
                continue
            one, other = (np.array([lines[name][draw] for draw in shared]) for name in (first, second))
            tests.append(
                dict(zip((*SETTING, "bits"), key, strict=True))
                | {"first": first, "second": second, "seeds": len(shared), "difference": float((one - other).mean())}
                | {"p_value": wilcoxon(one, other).p_value if len(shared) >= FEWEST_PAIRS else None, "p_holm": None}
            )
        tested = [test for test in tests if test["p_value"] is not None]
        for test, corrected in zip(tested, holm([test["p_value"] for test in tested]), strict=True):
            test["p_holm"] = corrected
        rows += tests
    columns = (*SETTING, "bits", "first", "second", "seeds", "difference", "p_value", "p_holm")
    return polars.DataFrame(rows, schema=_kinds(*columns))


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 1979) of a family of p-values, in their order."""
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def line_name(line: tuple[Any, ...]) -> str:
    """The name of a line of tables and figures, from method, quantiser and settings, as "itq · sbq"."""
    method, quantizer, settings = line
    return " · ".join(part for part in (method, quantizer, settings) if part)


def sweep_warnings(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> list[str]:
    """What a reader of the table must know, one line each.

    Args:
        runs: as `collect` gives.
        metric: whose variation with code length is looked at.
        over: as `collect` took it; over another number than the code length, scores may well be flat.

    Returns:
        Jobs that do not count, with why; methods whose scores hardly vary with code length; warnings of the runs,
        each once with the number of runs that gave it.
    """
    import polars

    lines = []
    for status, folder, error in runs.filter(polars.col("status") != "done").select("status", "folder", "error").rows():
        lines.append(f"{status}: {folder}: {error}")
    if over == "bits" and (runs["status"] == "done").any() and metric in metric_names(runs):
        means = aggregate(runs).filter(polars.col("metric") == metric)
        for key, group in means.group_by((*SETTING, *LINE), maintain_order=True):
            flat = flat_scores(dict(group.select("bits", "mean").rows()), metric)
            if flat is not None:
                lines.append(f"{line_name(key[len(SETTING) :])}: {flat}")
    done = runs.filter(polars.col("status") == "done").select("method", "bits", "warnings").rows()
    kinds: dict[tuple[str, str], set[int]] = {}
    counts: dict[tuple[str, str], int] = {}
    for method, bits, warnings in done:
        for kind in {warning.split(":")[0] for warning in warnings or []}:
            kinds.setdefault((method, kind), set()).add(bits)
            counts[method, kind] = counts.get((method, kind), 0) + 1
    for (method, kind), lengths in sorted(kinds.items()):
        at = ", ".join(map(str, sorted(lengths))) + (" bits" if over == "bits" else f" of {over}")
        given = f"{counts[method, kind]} runs" if counts[method, kind] > 1 else "1 run"
        whose = "their" if counts[method, kind] > 1 else "its"
        lines.append(f"{method}: {kind}, in {given}, at {at}; see warnings in {whose} metrics.json.")
    return lines


def _kinds(*columns: str) -> "dict[str, type[polars.DataType]]":
    """The type of each column: text, but for what is counted or measured."""
    import polars

    measured = ("mean", "low", "high", "skipped_queries", "difference", "p_value", "p_holm")
    counted = ("bits", "seeds")
    return {
        name: polars.Int64 if name in counted else polars.Float64 if name in measured else polars.String
        for name in columns
    }


def _by_draw(runs: "polars.DataFrame", metric: str) -> dict[tuple[Any, ...], float]:
    return {(seed, split): value for seed, split, value in runs.select("seed", "split", metric).rows()}
