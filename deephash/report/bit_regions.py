"""A figure of the regions of a plane in which each bit is 1, and of the cells of equal code."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deephash.codes import unpack
from deephash.hashers.hasher import Hasher
from deephash.report.drawing import BLUE, GREEN, INK, LINE_COLOURS, MARKERS, ORANGE, VERMILION, new_figure, paper_style
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Points along an edge of the figure; the eye resolves about 1/200 of it.
GRID = 300
# Bits with their own panel; further bits only appear in the cells.
MAX_PANELS = 4
CLASS_COLOURS = (VERMILION, GREEN, BLUE, ORANGE)


def crescents(items: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw points from three interlocked crescents, one per class, that no straight line separates.

    Args:
        items: number of points n.
        seed: seed of the draw.

    Returns:
        Features float32 (n, 2) and labels int64 (n,) from 0 to 2.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(items) % 3
    angle = torch.pi * torch.rand(items, generator=generator)
    # The middle crescent hangs upside down between the others.
    sign = torch.where(labels == 1, -1.0, 1.0)
    x = angle.cos() + 1.15 * (labels - 1.0)
    y = sign * angle.sin() + torch.where(labels == 1, 0.5, 0.0)
    points = torch.stack([x, y], 1) + 0.08 * torch.randn(items, 2, generator=generator)
    return points, labels


def draw_bit_regions(hasher: Hasher, features: Tensor, labels: Tensor | None = None, title: str = "") -> "Figure":
    """Draw the regions of a hasher's bits over two-dimensional data.

    Args:
        hasher: hasher fitted on features of two dimensions.
        features: floating (n, 2), drawn as points.
        labels: int64 (n,), classes of the points, or None.
        title: title of the figure.

    Returns:
        A figure with one panel for each of the first four bits, shaded where the bit is 1, and one with the cells of
        equal code.

    Raises:
        InvalidInputError: the hasher or the features are not two-dimensional.
    """
    for dimension, name in ((hasher.input_dim, "the hasher"), (features.shape[-1], "features")):
        if dimension != 2:
            raise InvalidInputError(
                f"{name} of dimension {dimension} cannot be drawn in a plane; expected dimension 2."
            )
    low, high = features.amin(0), features.amax(0)
    margin = 0.15 * (high - low)
    x, y = (torch.linspace(float(a), float(b), GRID) for a, b in zip(low - margin, high + margin, strict=True))
    plane = torch.stack(torch.meshgrid(x, y, indexing="xy"), 2).reshape(-1, 2)
    codes = hasher.encode(plane.to(features.dtype))
    bits = unpack(codes, hasher.bits).reshape(GRID, GRID, hasher.bits).numpy()
    count = min(hasher.bits, MAX_PANELS)
    with paper_style():
        figure = new_figure(1.75 * (count + 1), 1.75 + (0.25 if title else 0), w_pad=0.02, h_pad=0.02)
        panels = figure.subplots(1, count + 1, squeeze=False)[0]
        extent = (float(x[0]), float(x[-1]), float(y[0]), float(y[-1]))
        for j in range(count):
            _draw_panel(panels[j], np.where(bits[..., j], 1.0, 0.0), extent, "Blues", (-0.3, 3.0))
            panels[j].set_title(f"bit {j + 1}")
        cells, shades = _number_cells(bits)
        _draw_panel(panels[count], shades[cells], extent, "Pastel1", (0, 1))
        for panel in panels:
            _draw_points(panel, features.numpy(), None if labels is None else labels.numpy())
            panel.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
        panels[count].set_title(f"{len(shades)} cells")
        _draw_borders(panels[count], cells, extent)
        if title:
            figure.suptitle(title, fontsize=11, color=INK)
    return figure


def _number_cells(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of each point as a number from 0, and a shade for each code, far apart for close numbers."""
    flat = bits.reshape(-1, bits.shape[-1])
    _, cells = np.unique(flat, axis=0, return_inverse=True)
    # Multiples of the golden ratio stay apart modulo 1.
    shades = (np.arange(cells.max() + 1) * 0.6180339887) % 1
    return cells.reshape(bits.shape[:2]), shades


def _draw_panel(
    axes: "Axes", values: np.ndarray, extent: tuple[float, float, float, float], colours: str, ends: tuple[float, float]
) -> None:
    axes.imshow(
        values, origin="lower", extent=extent, aspect="auto", cmap=colours, vmin=ends[0], vmax=ends[1], alpha=0.9
    )


def _draw_borders(axes: "Axes", cells: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    edges = np.zeros(cells.shape)
    edges[:, 1:] += cells[:, 1:] != cells[:, :-1]
    edges[1:] += cells[1:] != cells[:-1]
    axes.imshow(np.where(edges > 0, 1.0, np.nan), origin="lower", extent=extent, aspect="auto", cmap="gray", vmin=-1)


def _draw_points(axes: "Axes", points: np.ndarray, labels: np.ndarray | None) -> None:
    classes = np.zeros(len(points), np.int64) if labels is None else labels
    for c in np.unique(classes):
        members = points[classes == c]
        colour = CLASS_COLOURS[c % len(CLASS_COLOURS)] if labels is not None else LINE_COLOURS[-1]
        axes.scatter(members[:, 0], members[:, 1], s=3, color=colour, marker=MARKERS[c % len(MARKERS)], linewidths=0)
