"""A plot of a stream: mAP and re-encoded items by items seen."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deephash.report.drawing import BLUE, GREY, VERMILION, new_figure, paper_style, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_stream(history: Sequence[Mapping[str, Any]], changes: Sequence[int], title: str = "") -> "Figure":
    """Draw the checkpoints of a stream.

    Args:
        history: checkpoints with at least "seen", "mAP" and "reencoded_items".
        changes: positions at which the stream changes.
        title: title of the figure.

    Returns:
        A figure with mAP above, the number of re-encoded items below, and dotted lines where the stream changes.
    """
    with paper_style():
        figure = new_figure(6, 4)
        score, cost = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        seen = [entry["seen"] for entry in history]
        score.plot(seen, [entry["mAP"] for entry in history], marker=".", color=BLUE)
        cost.step(seen, [entry["reencoded_items"] for entry in history], where="post", color=VERMILION)
        for axes in (score, cost):
            plain_axes(axes)
            for position in changes:
                axes.axvline(position, linestyle=":", color=GREY)
            axes.set_ylim(bottom=0)
        score.set(ylabel="mAP", title=title)
        cost.set(ylabel="Re-encoded items", xlabel="Items seen")
    return figure
