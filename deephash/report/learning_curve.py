"""The learning curve of joint training: losses and validation score by epoch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deephash.report.drawing import GREY, LINE_COLOURS, VERMILION, new_figure, paper_style, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_learning_curve(history: Mapping[str, Any], title: str = "") -> "Figure":
    """Draw the history of a training.

    Args:
        history: content of `history.json`, with keys "metric", "best_epoch" and "epochs". Each epoch has "epoch",
            "validation" and, except for the start, "losses".
        title: title of the figure.

    Returns:
        A figure with the validation score above, where start and best epoch are marked, and the losses below.
    """
    from matplotlib.ticker import MaxNLocator

    metric, epochs = history["metric"], history["epochs"]
    with paper_style():
        figure = new_figure(6, 5)
        score, losses = figure.subplots(2, 1, sharex=True)
        for axes in (score, losses):
            plain_axes(axes)
        points = [(entry["epoch"], entry["validation"][metric]) for entry in epochs]
        points = [(epoch, value) for epoch, value in points if value is not None]
        if points:
            score.plot(*zip(*points, strict=True), marker=".", color=LINE_COLOURS[0])
        for epoch, value in points:
            if epoch == 0:
                score.axhline(value, linestyle=":", color=GREY, label=f"fitted start: {value:.3f}")
            if epoch == history["best_epoch"]:
                score.plot([epoch], [value], marker="o", color=VERMILION, linestyle="", label=f"kept: {value:.3f}")
        score.set(ylabel=f"Validation {metric}", title=title)
        if score.get_legend_handles_labels()[0]:
            score.legend()
        names = sorted({name for entry in epochs for name in entry.get("losses", {})})
        for place, name in enumerate(names):
            curve = [(entry["epoch"], entry["losses"][name]) for entry in epochs if name in entry.get("losses", {})]
            colour = LINE_COLOURS[place % len(LINE_COLOURS)]
            losses.plot(*zip(*curve, strict=True), marker=".", color=colour, label=name)
        losses.set(ylabel="Loss, mean of the epoch", xlabel="Epoch")
        losses.xaxis.set_major_locator(MaxNLocator(integer=True))
        if names:
            losses.legend()
    return figure
