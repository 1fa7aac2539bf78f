"""The house style of figures: fonts, colours that colour-blind readers can distinguish, and reproducible files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deephash.io.files import write_whole
from deephash.validation import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito, "Color Universal Design", 2008, without the yellow, which is too pale for a line on white.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
LINE_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, PALE, INK = "#6B6B6B", "#DDDDDD", "#222222"
# Dots per inch: a figure as wide as a page is 2,000 dots wide, as journals require for line art in colour.
RESOLUTION = 300
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "axes.linewidth": 0.6,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.0,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text as fonts that publishers accept, not as outlines of type 3
    "svg.hashsalt": "deephash",  # ids that are the same in every drawing
}
# Metadata that leave out the date in each format, so that equal figures give equal files.
UNDATED: dict[str, dict[str, Any]] = {
    "png": {},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Apply the house style within the `with` block."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield


def new_figure(width: float, height: float, **padding: Any) -> "Figure":
    """Return an empty figure of a size in inches, not tracked by pyplot; `padding` sets the constrained layout."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(**padding), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: "Axes") -> None:
    """Show only the left and bottom sides of axes, and a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color=PALE, linewidth=0.5)
    axes.set_axisbelow(True)


def save_figure(figure: "Figure", path: Path, resolution: int = RESOLUTION) -> Path:
    """Write a figure. The write is atomic, and equal figures give equal bytes.

    Args:
        figure: figure to write.
        path: file ending in .png, .pdf or .svg. Its folder is created if missing.
        resolution: dots per inch.

    Returns:
        path.

    Raises:
        InvalidInputError: the file has the wrong ending.
    """
    kind = path.suffix.lower().lstrip(".")
    check_choice(kind, UNDATED, f"the ending of {path.name}")
    with paper_style():
        write_whole(path, lambda partial: figure.savefig(partial, format=kind, dpi=resolution, metadata=UNDATED[kind]))
    return path
