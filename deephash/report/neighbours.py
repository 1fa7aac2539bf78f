"""A figure of sample queries with their nearest neighbours."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from deephash.data.streamed_images import Thumbnails
from deephash.report.drawing import BLUE, GREY, INK, VERMILION, new_figure, paper_style
from deephash.report.item_display import format_classes, shorten
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pictures = np.ndarray | Thumbnails

# More cells than this are unreadable on a page and take minutes to draw.
MAX_QUERIES, MAX_NEIGHBOURS = 20, 20
# Sizes of a cell in inches: a thumbnail for an image of 32 × 32 pixels, and a box for a class name.
THUMBNAIL, BOX_WIDTH, BOX_HEIGHT = 0.66, 0.98, 0.42
# Characters of a class name that fit into a box.
BOX_CHARACTERS = 13
# Frame colour, line and mark of relevant and other items. Marks and lines distinguish them in greyscale print.
RELEVANT: tuple[str, Any, str] = (BLUE, "solid", "✓")
OTHER: tuple[str, Any, str] = (VERMILION, (0, (2, 1.2)), "✗")


def draw_neighbours(
    query_ids: Tensor,
    neighbour_ids: Tensor,
    distances: Tensor,
    relevant: Tensor,
    *,
    images: Pictures | None = None,
    labels: Tensor | None = None,
    class_names: Sequence[str] = (),
    title: str = "",
) -> "Figure":
    """Draw a row for each query: the query, then its nearest items with distances, in frames that show relevance.

    Args:
        query_ids: int64 (q,), rows of the data set, q from 1 to MAX_QUERIES.
        neighbour_ids: int64 (q, k), rows of the data set, nearest first, k from 1 to MAX_NEIGHBOURS.
        distances: whole numbers (q, k).
        relevant: bool (q, k), whether each neighbour is relevant to the query.
        images: uint8 (n, h, w) or (n, h, w, 3) of the data set, or its `Thumbnails`. None draws boxes with ids
            and class names.
        labels: class indices int64 (n,), indicator bool (n, c), or None.
        class_names: names of the c classes.
        title: title of the figure.

    Returns:
        A matplotlib figure with one axes per cell, in q rows of 1 + k cells.

    Raises:
        InvalidInputError: shapes do not match, there are too many cells, or ids lie outside the images or labels.
    """
    _check_inputs(query_ids, neighbour_ids, distances, relevant, images, labels)
    queries, count = neighbour_ids.shape
    width, height = (BOX_WIDTH, BOX_HEIGHT) if images is None else _get_cell_size(images)
    names = [format_classes(labels, class_names, int(query)) for query in query_ids]
    with paper_style():
        room = 0.55 + (0.25 if title else 0.0)
        width_of_names = 0.0 if images is None else 0.9
        size = (width_of_names + (1 + count) * width, queries * (height + 0.17) + room)
        figure = new_figure(*size, w_pad=0.03, h_pad=0.02, wspace=0.0, hspace=0.0)
        cells = figure.subplots(queries, 1 + count, squeeze=False)
        for row in range(queries):
            query = int(query_ids[row])
            _draw_cell(cells[row, 0], images, query, names[row], ("black", "solid"))
            if images is not None:
                cells[row, 0].set_ylabel(_wrap(names[row]), rotation=0, ha="right", va="center", fontsize=8)
            for rank in range(count):
                item, axes = int(neighbour_ids[row, rank]), cells[row, 1 + rank]
                colour, line, mark = RELEVANT if bool(relevant[row, rank]) else OTHER
                _draw_cell(axes, images, item, format_classes(labels, class_names, item), (colour, line))
                axes.set_xlabel(f"{mark} {int(distances[row, rank])}", fontsize=7.5, color=colour, labelpad=1.5)
        cells[0, 0].set_title("query", fontsize=8)
        cells[0, 1].set_title("nearest", fontsize=8)
        _draw_legend(figure)
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def _get_cell_size(images: Pictures) -> tuple[float, float]:
    """Return the size in inches of a cell with the aspect of the images and the area of a square thumbnail."""
    aspect = float(np.clip(images.shape[2] / images.shape[1], 0.4, 2.5))
    return THUMBNAIL * aspect**0.5, THUMBNAIL / aspect**0.5


def _wrap(name: str) -> str:
    """Break a class name into at most three lines of BOX_CHARACTERS characters."""
    import textwrap

    return "\n".join(textwrap.wrap(name, BOX_CHARACTERS, max_lines=3, placeholder=" …"))


def _draw_cell(axes: "Axes", images: Pictures | None, item: int, name: str, frame: tuple[str, Any]) -> None:
    """Draw an item, as its picture or as its class name and id, in a frame of that colour and line."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(edgecolor=frame[0], linestyle=frame[1], linewidth=1.6)
    if images is not None:
        axes.imshow(images[item], cmap="gray" if images.ndim == 3 else None, vmin=0, vmax=255, aspect="auto")
        return
    axes.set(xlim=(0, 1), ylim=(0, 1))
    text = shorten(name, BOX_CHARACTERS)
    axes.text(0.5, 0.64 if text else 0.5, text, ha="center", va="center", fontsize=7.5, color=INK)
    axes.text(0.5, 0.28 if text else 0.5, f"#{item}", ha="center", va="center", fontsize=6.5, color=GREY)


def _draw_legend(figure: "Figure") -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linestyle=line, linewidth=1.6, label=f"{mark} {word}, distance below")
        for (colour, line, mark), word in ((RELEVANT, "relevant"), (OTHER, "not relevant"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7.5, handlelength=2.4)


def _check_inputs(
    query_ids: Tensor,
    neighbour_ids: Tensor,
    distances: Tensor,
    relevant: Tensor,
    images: Pictures | None,
    labels: Tensor | None,
) -> None:
    if neighbour_ids.ndim != 2 or query_ids.shape != neighbour_ids.shape[:1]:
        raise InvalidInputError(
            f"query_ids have shape {tuple(query_ids.shape)} and neighbour_ids {tuple(neighbour_ids.shape)}; "
            "expected (q,) and (q, k)."
        )
    if distances.shape != neighbour_ids.shape or relevant.shape != neighbour_ids.shape:
        raise InvalidInputError(
            f"distances have shape {tuple(distances.shape)} and relevant {tuple(relevant.shape)}; "
            f"expected that of neighbour_ids, {tuple(neighbour_ids.shape)}."
        )
    queries, count = neighbour_ids.shape
    if not (1 <= queries <= MAX_QUERIES and 1 <= count <= MAX_NEIGHBOURS):
        raise InvalidInputError(
            f"{queries} queries with {count} neighbours each; the figure shows 1 to {MAX_QUERIES} queries with "
            f"1 to {MAX_NEIGHBOURS} neighbours: pass fewer."
        )
    if images is not None and (
        images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,))
    ):
        raise InvalidInputError(
            f"images have shape {images.shape} and dtype {images.dtype}; expected uint8 (n, h, w) or (n, h, w, 3)."
        )
    lowest = min(int(query_ids.min()), int(neighbour_ids.min()))
    highest = max(int(query_ids.max()), int(neighbour_ids.max()))
    for values, name in ((images, "images"), (labels, "labels")):
        if values is not None and not (lowest >= 0 and highest < len(values)):
            raise InvalidInputError(
                f"ids reach from {lowest} to {highest}; expected rows of the data set, which has {len(values)} {name}."
            )
