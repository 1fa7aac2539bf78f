"""Metrics of a stream: area under the scores, lag after changes, forgetting."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Share of a phase's final level that counts as recovered.
RECOVERED = 0.95
# Last part of a phase, over which its final level is computed.
LAST_PART = 0.25


def area(seen: Sequence[int], scores: Sequence[float]) -> float:
    """Compute the mean score from the first to the last checkpoint by the trapezoidal rule.

    Args:
        seen: number of items at each checkpoint, ascending.
        scores: score at each checkpoint.
    """
    if len(seen) == 1:
        return float(scores[0])
    values = np.asarray(scores, np.float64)
    return float((np.diff(seen) * (values[1:] + values[:-1]) / 2).sum() / (seen[-1] - seen[0]))


def lags(seen: Sequence[int], scores: Sequence[float], changes: Sequence[int]) -> list[float]:
    """Count the items from each change to the first checkpoint whose score is at least 95 % of the final level.

    The final level is the mean score of the checkpoints in the last quarter of the phase, which ends at the next
    change. The resolution is the distance between checkpoints.

    Args:
        seen: number of items at each checkpoint, ascending.
        scores: score at each checkpoint.
        changes: positions at which the stream changes.

    Returns:
        Lags in items, one for each change whose phase has a checkpoint.
    """
    lengths = []
    for start, stop in zip(changes, [*changes, seen[-1]][1:], strict=True):
        phase = [(at, score) for at, score in zip(seen, scores, strict=True) if start < at <= stop]
        if not phase:
            continue
        tail = [score for at, score in phase if at > stop - LAST_PART * (stop - start)]
        level = float(np.mean(tail or [phase[-1][1]]))
        lengths.append(float(next((at for at, score in phase if score >= RECOVERED * level), stop) - start))
    return lengths


def forgetting(per_class: Sequence[Sequence[float | None]], present: Sequence[bool]) -> float:
    """Compute the mean fall of the scores of absent classes from their best earlier score.

    Args:
        per_class: score of each class at each checkpoint; None if the class had no score.
        present: whether each class still arrives at the end; if all do, all classes count.

    Returns:
        The mean fall, from -1 to 1; NaN if no class has two scores.
    """
    scores = np.array([[np.nan if score is None else score for score in row] for row in per_class], float)
    gone = ~np.asarray(present)
    chosen = scores[:, gone] if gone.any() else scores
    falls = [np.nanmax(column[:-1]) - column[-1] for column in chosen.T if np.isfinite(column).sum() > 1]
    return float(np.nanmean(falls)) if falls else float("nan")


def summarise_stream(
    history: Sequence[dict[str, Any]], changes: Sequence[int], present: Sequence[bool]
) -> dict[str, Any]:
    """Compute the metrics of a stream.

    Args:
        history: entries of the checkpoints.
        changes: positions at which the stream changes.
        present: whether each class still arrives at the end.

    Returns:
        "mAP" at the end, its "area", the mean "lag" (NaN without changes), "forgetting", the mean
        "prequential_precision" of all steps, and the number of items and bytes that were re-encoded.
    """
    seen, scores = [entry["seen"] for entry in history], [entry["mAP"] for entry in history]
    recovered = lags(seen, scores, changes)
    last = history[-1]
    return {
        "mAP": scores[-1],
        "area": area(seen, scores),
        "lag": float(np.mean(recovered)) if recovered else float("nan"),
        "forgetting": forgetting([entry["per_class"] for entry in history], present),
        "prequential_precision": last["prequential_precision"],
        "reencoded_items": last["reencoded_items"],
        "reencoded_bytes": last["reencoded_bytes"],
    }
