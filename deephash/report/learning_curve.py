"""The learning curve of a joint training: losses and validation score by epoch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_curve_figure(history: Mapping[str, Any], title: str = "") -> "Figure":
    """Draw a training's history.

    Args:
        history: as `history.json` holds it: "metric", "best_epoch", and "epochs", a list of "epoch", "validation" and,
            but for the start, "losses".
        title: above the figure.

    Returns:
        The validation score above, with the start and the best epoch marked, and the losses below.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metric, epochs = history["metric"], history["epochs"]
    figure = Figure(figsize=(6, 5), layout="constrained")
    score, losses = figure.subplots(2, 1, sharex=True)
    found = [(entry["epoch"], entry["validation"][metric]) for entry in epochs]
    found = [(epoch, value) for epoch, value in found if value is not None]
    if found:
        score.plot(*zip(*found, strict=True), marker=".")
    for epoch, value in found:
        if epoch == 0:
            score.axhline(value, linestyle=":", color="0.5", label=f"fitted start {value:.3f}")
        if epoch == history["best_epoch"]:
            score.plot([epoch], [value], marker="o", color="C3", linestyle="", label=f"kept: {value:.3f}")
    score.set_ylabel(f"validation {metric}")
    score.set_title(title)
    score.legend()
    for name in sorted({name for entry in epochs for name in entry.get("losses", {})}):
        course = [(entry["epoch"], entry["losses"][name]) for entry in epochs if name in entry.get("losses", {})]
        losses.plot(*zip(*course, strict=True), marker=".", label=name)
    losses.set_ylabel("loss, epoch's mean")
    losses.set_xlabel("epoch")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    if losses.lines:
        losses.legend()
    return figure
