"""The course of a stream: mAP by items seen, with the changes marked, and what was re-encoded on the way."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deephash.report.drawing import BLUE, GREY, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def stream_figure(history: Sequence[Mapping[str, Any]], changes: Sequence[int], title: str = "") -> "Figure":
    """Draw the checkpoints of a stream.

    Args:
        history: of each checkpoint "seen", "mAP" and "reencoded_items", at least.
        changes: positions at which the stream changes.
        title: above the figure.

    Returns:
        mAP above, the items that were re-encoded below, dotted lines where the stream changes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    score, cost = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    seen = [entry["seen"] for entry in history]
    score.plot(seen, [entry["mAP"] for entry in history], marker=".", color=BLUE)
    cost.step(seen, [entry["reencoded_items"] for entry in history], where="post", color=VERMILION)
    for axes in (score, cost):
        for at in changes:
            axes.axvline(at, linestyle=":", color=GREY)
        axes.set_ylim(bottom=0)
    score.set_ylabel("mAP")
    score.set_title(title)
    cost.set_ylabel("re-encoded")
    cost.set_xlabel("items seen")
    return figure
