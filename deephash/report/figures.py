"""Figures of one run: its precision-recall curve and its bits. Neighbours are in `neighbours`, sweeps in `sweep`."""

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from deephash.report.diagnostics import UNBALANCED_SHARE, BitDiagnostics
from deephash.report.drawing import BLUE, GREY, INK, VERMILION, new_figure, paper_style, plain_axes
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Radii named on the curve; more would run into each other.
NAMED_RADII = 6
# Radii that are marked each; the marks of more would hide the line.
MAX_MARKED_RADII = 130
DIRECTION_STYLES = ((BLUE, "o"), (VERMILION, "s"), (INK, "^"), (GREY, "D"))
BIT_KINDS = (("balanced", BLUE, "o"), ("unbalanced", VERMILION, "D"), ("constant", INK, "X"))


def check_curve(recall: Tensor, precision: Tensor) -> None:
    """Raise an error for a value that is not a precision-recall curve.

    Raises:
        InvalidInputError: unequal or wrong shapes, no finite point, or values outside [0, 1].
    """
    if recall.ndim != 1 or recall.shape != precision.shape:
        raise InvalidInputError(
            f"recall has shape {tuple(recall.shape)} and precision {tuple(precision.shape)}; "
            "expected one value of each for each radius, (b + 1,)."
        )
    for values, name in ((recall, "recall"), (precision, "precision")):
        known = values[~values.isnan()]
        if len(known) == 0:
            raise InvalidInputError(f"{name} holds no number; there is no curve to draw.")
        if float(known.min()) < 0 or float(known.max()) > 1:
            raise InvalidInputError(
                f"{name} reaches from {float(known.min()):g} to {float(known.max()):g}; expected values in [0, 1]."
            )


def pr_curve_figure(
    recall: Tensor,
    precision: Tensor,
    *,
    macro: tuple[Tensor, Tensor] | None = None,
    title: str = "",
    area: float | None = None,
    macro_area: float | None = None,
) -> "Figure":
    """The precision-recall curve that the radius traces, with a few radii named on it.

    Args:
        recall: floating (b + 1,), micro-averaged recall within each radius from 0.
        precision: floating (b + 1,), micro-averaged precision; NaN (nothing within the radius) is left out.
        macro: recall and precision averaged over queries, drawn as a second curve; None draws none.
        title: above the figure.
        area: AUPRC of the micro average, named in the legend.
        macro_area: mean of the queries' own AUPRC, which is not the area under the curve of the means.

    Returns:
        A matplotlib figure, 4.2 × 3.4 inches.

    Raises:
        InvalidInputError: where a curve is not two vectors of one length with values in [0, 1].
    """
    check_curve(recall, precision)
    if macro is not None:
        check_curve(*macro)
    with paper_style():
        figure = new_figure(4.2, 3.4)
        axes = figure.add_subplot()
        plain_axes(axes)
        label = "micro average" + ("" if area is None else f", AUPRC {area:.4f}")
        _curve(axes, recall, precision, colour=BLUE, marker="o", label=label)
        if macro is not None:
            label = "macro average" + ("" if macro_area is None else f", mean AUPRC {macro_area:.4f}")
            _curve(axes, *macro, colour=VERMILION, marker="s", label=label)
        _name_radii(axes, recall, precision)
        if not precision[-1].isnan():
            base = float(precision[-1])
            axes.axhline(base, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label=f"random order, {base:.4f}")
        axes.set(xlim=(-0.02, 1.02), ylim=(0, _ceiling(precision, *(macro or ())[1:])))
        axes.set(xlabel="Recall", ylabel="Precision", title=title)
        axes.legend(loc="best")
    return figure


def _ceiling(*precisions: Tensor) -> float:
    """A top for the precision axis that leaves low curves readable: above 1, or the next .1 with room above."""
    highest = max(float(precision.nan_to_num(0).max()) for precision in precisions)
    return 1.05 if highest > 0.8 else float(np.ceil(highest * 12.5) / 10 + 0.02)


def _curve(axes: "Axes", recall: Tensor, precision: Tensor, *, colour: str, marker: str, label: str) -> None:
    known = ~(recall.isnan() | precision.isnan())
    line = axes.plot(recall[known].tolist(), precision[known].tolist(), color=colour, linewidth=1.2, label=label)[0]
    if int(known.sum()) <= MAX_MARKED_RADII:
        line.set(marker=marker, markersize=2.5)


def _name_radii(axes: "Axes", recall: Tensor, precision: Tensor) -> None:
    """Write the radius beside points spread evenly along recall."""
    known = (~(recall.isnan() | precision.isnan())).nonzero().flatten()
    reached = recall[known].double()
    wanted = np.linspace(float(reached.min()), float(reached.max()), NAMED_RADII)
    radii = sorted({int(known[int((reached - value).abs().argmin())]) for value in wanted})
    for radius in radii:
        point = (float(recall[radius]), float(precision[radius]))
        side, shift = ("right", (2, 7)) if point[0] > 0.9 else ("left", (3, 4))
        axes.annotate(f"r={radius}", point, xytext=shift, textcoords="offset points", fontsize=7, color=INK, ha=side)


def directions_figure(curves: Mapping[str, tuple[Tensor, Tensor, float]], *, title: str = "") -> "Figure":
    """The precision-recall curves of several directions of search, each with its area.

    Args:
        curves: recall (b + 1,), precision (b + 1,) and area, by the name of the direction.
        title: above the figure.

    Returns:
        A matplotlib figure, 4.2 × 3.4 inches.

    Raises:
        InvalidInputError: as `pr_curve_figure`.
    """
    for recall, precision, _ in curves.values():
        check_curve(recall, precision)
    with paper_style():
        figure = new_figure(4.2, 3.4)
        axes = figure.add_subplot()
        plain_axes(axes)
        for (name, (recall, precision, area)), (colour, marker) in zip(
            curves.items(), cycle(DIRECTION_STYLES), strict=False
        ):
            _curve(axes, recall, precision, colour=colour, marker=marker, label=f"{name}, AUPRC {area:.4f}")
        axes.set(xlim=(-0.02, 1.02), ylim=(0, _ceiling(*(precision for _, precision, _ in curves.values()))))
        axes.set(xlabel="Recall", ylabel="Precision", title=title)
        axes.legend(loc="best")
    return figure


def bits_figure(diagnostics: BitDiagnostics, title: str = "") -> "Figure":
    """Share of ones of each bit, and a heat map of the bits' correlation.

    Args:
        diagnostics: of the codes.
        title: above the figure.

    Returns:
        A matplotlib figure, 7 × 3.3 inches, of two panels and a colour bar. Constant bits are crossed out in grey in
        the map, for they have no correlation.
    """
    from matplotlib.ticker import MaxNLocator

    bits, ones = diagnostics.bits, diagnostics.ones.numpy()
    with paper_style():
        figure = new_figure(7.0, 3.3)
        shares, heat = figure.subplots(1, 2, width_ratios=(1.15, 1))
        plain_axes(shares)
        kind = np.where((ones == 0) | (ones == 1), 2, (ones < UNBALANCED_SHARE) | (ones > 1 - UNBALANCED_SHARE))
        shares.axhspan(UNBALANCED_SHARE, 1 - UNBALANCED_SHARE, color=BLUE, alpha=0.07, linewidth=0)
        shares.axhline(0.5, color=GREY, linewidth=0.8)
        size = 4 if bits <= 128 else 2
        for number, (label, colour, marker) in enumerate(BIT_KINDS):
            places = np.flatnonzero(kind == number)
            if len(places):
                label = f"{len(places)} {label}"
                shares.plot(places, ones[places], marker, color=colour, markersize=size, label=label)
        shares.set(xlim=(-0.5 - bits * 0.02, bits - 0.5 + bits * 0.02), ylim=(-0.03, 1.03))
        shares.set(xlabel="Bit", ylabel="Share of items whose bit is 1", title="Balance")
        shares.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, handletextpad=0.1)
        _heat_map(figure, heat, diagnostics)
        for axis in (shares.xaxis, heat.xaxis, heat.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=6, steps=(1, 2, 4, 8, 10), integer=True, min_n_ticks=1))
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def _heat_map(figure: "Figure", axes: "Axes", diagnostics: BitDiagnostics) -> None:
    from matplotlib import colormaps

    matrix = np.ma.masked_invalid(diagnostics.correlation.numpy())
    colours = colormaps["RdBu_r"].with_extremes(bad="#BBBBBB")
    image = axes.imshow(matrix, cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
    colour_bar = figure.colorbar(image, ax=axes, shrink=0.85, ticks=(-1, -0.5, 0, 0.5, 1))
    colour_bar.outline.set_linewidth(0.4)
    mean = diagnostics.mean_correlation
    axes.set(xlabel="Bit", ylabel="Bit")
    axes.set_title("Correlation" + ("" if mean is None else f", mean |r| {mean:.3f}"))
