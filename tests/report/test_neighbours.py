"""The picture of queries with their neighbours: right cells, frames, marks, names."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from deephash.report.drawing import BLUE, VERMILION, save_figure
from deephash.report.item_display import format_classes
from deephash.report.neighbours import draw_neighbours
from deephash.validation import InvalidInputError

QUERIES = torch.tensor([4, 7])
NEIGHBOURS = torch.tensor([[1, 2, 3], [0, 5, 6]])
DISTANCES = torch.tensor([[0, 3, 12], [1, 1, 2]])
RELEVANT = torch.tensor([[True, False, True], [False, False, True]])
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
NAMES = ("cat", "dog", "an exceedingly long name")


@pytest.fixture(scope="module")
def digits(mnist_pixels):
    """The first eight digits, uint8 (8, 28, 28)."""
    return mnist_pixels[:8].reshape(-1, 28, 28).astype(np.uint8)


def draw(**settings):
    return draw_neighbours(QUERIES, NEIGHBOURS, DISTANCES, RELEVANT, labels=LABELS, class_names=NAMES, **settings)


def test_pictures_frames_and_marks(digits):
    figure = draw(images=digits, title="itq, 12 bits")
    cells = np.array(figure.axes).reshape(2, 4)
    for row, query in enumerate(QUERIES.tolist()):
        np.testing.assert_array_equal(cells[row, 0].get_images()[0].get_array(), digits[query])
        for rank, item in enumerate(NEIGHBOURS[row].tolist()):
            np.testing.assert_array_equal(cells[row, 1 + rank].get_images()[0].get_array(), digits[item])
    marks = [[axes.get_xlabel() for axes in row[1:]] for row in cells]
    assert marks == [["✓ 0", "✗ 3", "✓ 12"], ["✗ 1", "✗ 1", "✓ 2"]]
    colours = [[to_hex(axes.spines["top"].get_edgecolor()).upper() for axes in row[1:]] for row in cells]
    assert colours == [[BLUE if right else VERMILION for right in row] for row in RELEVANT.tolist()]
    assert [row[0].get_ylabel() for row in cells] == ["dog", "dog"]
    assert figure.get_suptitle() == "itq, 12 bits"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["✓ relevant, distance below", "✗ not relevant, distance below"]


def test_without_images_boxes_name_class_and_item():
    cells = np.array(draw().axes).reshape(2, 4)
    texts = [[[text.get_text() for text in axes.texts] for axes in row] for row in cells]
    assert texts[0] == [["dog", "#4"], ["dog", "#1"], ["an exceeding…", "#2"], ["cat", "#3"]]
    assert cells[0, 2].get_xlabel() == "✗ 3"


def test_colour_images_and_no_labels(digits):
    coloured = np.stack([digits, 255 - digits, digits], axis=-1)
    figure = draw_neighbours(QUERIES, NEIGHBOURS, DISTANCES, RELEVANT, images=coloured)
    np.testing.assert_array_equal(figure.axes[1].get_images()[0].get_array(), coloured[1])
    assert figure.axes[0].get_ylabel() == ""


def test_file_is_not_blank_and_the_same_each_time(tmp_path, digits):
    one, two = (save_figure(draw(images=digits), tmp_path / f"{name}.png") for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    with Image.open(one) as image:
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_class_text():
    assert format_classes(LABELS, NAMES, 1) == "dog"
    assert format_classes(LABELS, (), 2) == "2"
    assert format_classes(None, NAMES, 2) == ""
    indicator = torch.tensor([[True, False, True], [False, False, False]])
    assert format_classes(indicator, NAMES, 0) == "cat, an exceedingly long name"
    assert format_classes(indicator, NAMES, 1) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_ids": torch.tensor([4])}, r"query_ids have shape \(1,\) and neighbour_ids \(2, 3\); expected \(q,\)"),
        ({"distances": DISTANCES[:, :2]}, r"distances have shape \(2, 2\) and relevant \(2, 3\); expected that of"),
        ({"relevant": RELEVANT[:1]}, r"relevant \(1, 3\); expected that of neighbour_ids, \(2, 3\)"),
        (
            {"neighbour_ids": NEIGHBOURS - 1},
            r"ids reach from -1 to 7; expected rows of the data set, which has 8 labels",
        ),
        ({"labels": LABELS[:6]}, r"ids reach from 0 to 7; expected rows of the data set, which has 6 labels"),
        ({"images": np.zeros((8, 4))}, r"images have shape \(8, 4\) and dtype float64; expected uint8 \(n, h, w\) or"),
        ({"images": np.zeros((8, 4, 4, 4), np.uint8)}, r"images have shape \(8, 4, 4, 4\) and dtype uint8"),
    ],
)
def test_wrong_inputs_are_refused(changes, message):
    given = {"query_ids": QUERIES, "neighbour_ids": NEIGHBOURS, "distances": DISTANCES, "relevant": RELEVANT}
    with pytest.raises(InvalidInputError, match=message):
        draw_neighbours(**{**given, "labels": LABELS, **changes})


def test_too_many_cells_are_refused():
    ids = torch.zeros(2, 21, dtype=torch.int64)
    with pytest.raises(InvalidInputError, match=r"2 queries with 21 neighbours each; the figure shows 1 to 20 queries"):
        draw_neighbours(QUERIES, ids, ids, ids.bool())
    with pytest.raises(InvalidInputError, match=r"0 queries with 3 neighbours each"):
        draw_neighbours(QUERIES[:0], NEIGHBOURS[:0], DISTANCES[:0], RELEVANT[:0])
