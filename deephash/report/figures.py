"""Figures of one run: its precision-recall curves and its bits."""

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

# Number of radii labelled on the curve; more labels would overlap.
LABELLED_RADII = 6
# Curves with more radii have no markers, which would hide the line.
MAX_MARKED_RADII = 130
CURVE_STYLES = ((BLUE, "o"), (VERMILION, "s"), (INK, "^"), (GREY, "D"))
BIT_KINDS = (("balanced", BLUE, "o"), ("unbalanced", VERMILION, "D"), ("constant", INK, "X"))


def check_curve(recall: Tensor, precision: Tensor) -> None:
    """Raise an error if the values are not a precision-recall curve.

    Raises:
        InvalidInputError: shapes are unequal or wrong, no point is finite, or values lie outside [0, 1].
    """
    if recall.ndim != 1 or recall.shape != precision.shape:
        raise InvalidInputError(
            f"recall has shape {tuple(recall.shape)} and precision {tuple(precision.shape)}; "
            "expected one value of each for each radius, (b + 1,)."
        )
    for values, name in ((recall, "recall"), (precision, "precision")):
        known = values[~values.isnan()]
        if len(known) == 0:
            raise InvalidInputError(f"{name} has no numbers, so no curve can be drawn; score the run again.")
        if float(known.min()) < 0 or float(known.max()) > 1:
            raise InvalidInputError(
                f"{name} reaches from {float(known.min()):g} to {float(known.max()):g}; expected values in [0, 1]."
            )


def draw_pr_curve(
    recall: Tensor,
    precision: Tensor,
    *,
    macro: tuple[Tensor, Tensor] | None = None,
    title: str = "",
    area: float | None = None,
    macro_area: float | None = None,
) -> "Figure":
    """Draw the precision-recall curve over search radii, with a few radii labelled.

    Args:
        recall: floating (b + 1,), micro-averaged recall within each radius from 0.
        precision: floating (b + 1,), micro-averaged precision. NaN, where nothing lies within the radius, is left out.
        macro: recall and precision averaged over queries, drawn as a second curve; None draws none.
        title: title of the figure.
        area: AUPRC of the micro average, shown in the legend.
        macro_area: mean AUPRC of the queries, which is not the area under the curve of the means.

    Returns:
        A matplotlib figure, 4.2 × 3.4 inches.

    Raises:
        InvalidInputError: a curve is not two vectors of one length with values in [0, 1].
    """
    curves = {"micro average" + ("" if area is None else f", AUPRC {area:.4f}"): (recall, precision)}
    if macro is not None:
        curves["macro average" + ("" if macro_area is None else f", mean AUPRC {macro_area:.4f}")] = macro
    with paper_style():
        figure, axes = _draw_curves(curves, title)
        _label_radii(axes, recall, precision)
        if not precision[-1].isnan():
            base = float(precision[-1])
            axes.axhline(base, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label=f"random order, {base:.4f}")
        axes.legend(loc="best")
    return figure


def draw_directions(curves: Mapping[str, tuple[Tensor, Tensor, float]], *, title: str = "") -> "Figure":
    """Draw the precision-recall curves of several directions of search, each with its area.

    Args:
        curves: direction → recall (b + 1,), precision (b + 1,) and area.
        title: title of the figure.

    Returns:
        A matplotlib figure, 4.2 × 3.4 inches.

    Raises:
        InvalidInputError: a curve is not two vectors of one length with values in [0, 1].
    """
    named = {f"{name}, AUPRC {area:.4f}": (recall, precision) for name, (recall, precision, area) in curves.items()}
    with paper_style():
        figure, axes = _draw_curves(named, title)
        axes.legend(loc="best")
    return figure


def _draw_curves(curves: Mapping[str, tuple[Tensor, Tensor]], title: str) -> tuple["Figure", "Axes"]:
    """Draw curves of recall and precision by their label, without a legend."""
    for recall, precision in curves.values():
        check_curve(recall, precision)
    figure = new_figure(4.2, 3.4)
    axes = figure.add_subplot()
    plain_axes(axes)
    for (label, (recall, precision)), (colour, marker) in zip(curves.items(), cycle(CURVE_STYLES), strict=False):
        known = ~(recall.isnan() | precision.isnan())
        line = axes.plot(recall[known].tolist(), precision[known].tolist(), color=colour, linewidth=1.2, label=label)[0]
        if int(known.sum()) <= MAX_MARKED_RADII:
            line.set(marker=marker, markersize=2.5)
    highest = max(float(precision.nan_to_num(0).max()) for _, precision in curves.values())
    # The axis of a low curve ends a quarter above it, rounded up to a tenth, so that the curve stays readable.
    ceiling = 1.05 if highest > 0.8 else float(np.ceil(highest * 12.5) / 10 + 0.02)
    axes.set(xlim=(-0.02, 1.02), ylim=(0, ceiling), xlabel="Recall", ylabel="Precision", title=title)
    return figure, axes


def _label_radii(axes: "Axes", recall: Tensor, precision: Tensor) -> None:
    """Write the radius beside points spread evenly along recall."""
    known = (~(recall.isnan() | precision.isnan())).nonzero().flatten()
    reached = recall[known].double()
    wanted = np.linspace(float(reached.min()), float(reached.max()), LABELLED_RADII)
    radii = sorted({int(known[int((reached - value).abs().argmin())]) for value in wanted})
    for radius in radii:
        point = (float(recall[radius]), float(precision[radius]))
        side, shift = ("right", (2, 7)) if point[0] > 0.9 else ("left", (3, 4))
        axes.annotate(f"r={radius}", point, xytext=shift, textcoords="offset points", fontsize=7, color=INK, ha=side)


def draw_bits(diagnostics: BitDiagnostics, title: str = "") -> "Figure":
    """Draw the share of ones of each bit and a heat map of the correlation between bits.

    Args:
        diagnostics: diagnostics of the codes.
        title: title of the figure.

    Returns:
        A matplotlib figure, 7 × 3.3 inches, of two panels and a colour bar. Constant bits, which have no correlation,
        are grey in the map.
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
        shares.set(xlabel="Bit", ylabel="Share of ones", title="Balance")
        shares.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, handletextpad=0.1)
        _draw_heat_map(figure, heat, diagnostics)
        for axis in (shares.xaxis, heat.xaxis, heat.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=6, steps=(1, 2, 4, 8, 10), integer=True, min_n_ticks=1))
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def _draw_heat_map(figure: "Figure", axes: "Axes", diagnostics: BitDiagnostics) -> None:
    from matplotlib import colormaps

    matrix = np.ma.masked_invalid(diagnostics.correlation.numpy())
    colours = colormaps["RdBu_r"].with_extremes(bad="#BBBBBB")
    image = axes.imshow(matrix, cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
    colour_bar = figure.colorbar(image, ax=axes, shrink=0.85, ticks=(-1, -0.5, 0, 0.5, 1))
    colour_bar.outline.set_linewidth(0.4)
    mean = diagnostics.mean_correlation
    axes.set(xlabel="Bit", ylabel="Bit")
    axes.set_title("Correlation" + ("" if mean is None else f", mean |r| {mean:.3f}"))
