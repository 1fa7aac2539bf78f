"""Contents of figures: curves, labels, panels; the files are the same each time."""

import numpy as np
import pytest
import torch
from PIL import Image

from deephash.codes import pack
from deephash.report.diagnostics import bit_diagnostics
from deephash.report.drawing import save_figure
from deephash.report.figures import draw_bits, draw_pr_curve
from deephash.validation import InvalidInputError

RECALL = torch.tensor([0.0, 0.1, 0.5, 1.0])
PRECISION = torch.tensor([float("nan"), 0.8, 0.6, 0.25])


def bits_of(bits, items=500):
    ones = torch.rand(items, bits, generator=torch.Generator().manual_seed(0)) < 0.5
    ones[:, 0] = True
    return ones


def is_blank(path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return (pixels == pixels[0, 0]).all()


def test_pr_curve_draws_its_points_and_names():
    figure = draw_pr_curve(RECALL, PRECISION, title="itq, 3 bits", area=0.51234)
    (axes,) = figure.axes
    curve, chance = axes.get_lines()
    np.testing.assert_allclose(curve.get_xydata(), [[0.1, 0.8], [0.5, 0.6], [1.0, 0.25]], rtol=1e-6)
    assert set(chance.get_ydata()) == {0.25}
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("Recall", "Precision", "itq, 3 bits")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "micro average, AUPRC 0.5123",
        "random order, 0.2500",
    ]
    assert {text.get_text() for text in axes.texts} == {"r=1", "r=2", "r=3"}


def test_pr_curve_shows_both_averages():
    figure = draw_pr_curve(RECALL, PRECISION, macro=(RECALL, PRECISION * 0.5), macro_area=0.25)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["micro average", "macro average, mean AUPRC 0.2500", "random order, 0.2500"]
    np.testing.assert_allclose(figure.axes[0].get_lines()[1].get_ydata(), [0.4, 0.3, 0.125], rtol=1e-6)


def test_low_curves_get_a_low_ceiling():
    assert draw_pr_curve(RECALL, PRECISION).axes[0].get_ylim()[1] > 1
    low = draw_pr_curve(RECALL, PRECISION * 0.15).axes[0].get_ylim()[1]
    assert 0.12 < low < 0.25


def test_curve_of_many_radii_has_no_marks():
    recall = torch.linspace(0, 1, 1025)
    (curve, _) = draw_pr_curve(recall, 1 - recall / 2).axes[0].get_lines()
    assert curve.get_marker() == "None"
    assert len(curve.get_xdata()) == 1025


@pytest.mark.parametrize(
    ("recall", "precision", "message"),
    [
        (RECALL, PRECISION[:3], r"recall has shape \(4,\) and precision \(3,\); expected one value of each"),
        (RECALL, PRECISION * 2, r"precision reaches from 0.5 to 1.6; expected values in \[0, 1\]"),
        (RECALL - 0.5, PRECISION, r"recall reaches from -0.5 to 0.5"),
        (RECALL, PRECISION * torch.nan, r"precision has no numbers, so no curve can be drawn"),
    ],
)
def test_wrong_curves_are_refused(recall, precision, message):
    with pytest.raises(InvalidInputError, match=message):
        draw_pr_curve(recall, precision)
    with pytest.raises(InvalidInputError, match=message):
        draw_pr_curve(RECALL, PRECISION, macro=(recall, precision))


def test_bits_figure_shows_shares_and_correlation():
    bits = bits_of(12)
    bits[:, 5] = torch.arange(500) % 20 == 0
    diagnostics = bit_diagnostics(pack(bits), 12)
    figure = draw_bits(diagnostics, "lsh, 12 bits")
    shares, heat, bar = figure.axes
    drawn = {x: y for line in shares.get_lines()[1:] for x, y in line.get_xydata()}
    np.testing.assert_allclose([drawn[bit] for bit in range(12)], diagnostics.ones)
    labels = [text.get_text() for text in shares.get_legend().get_texts()]
    assert labels == ["10 balanced", "1 unbalanced", "1 constant"]
    (image,) = heat.get_images()
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), diagnostics.correlation)
    assert image.get_clim() == (-1, 1)
    assert heat.get_title() == f"Correlation, mean |r| {diagnostics.mean_correlation:.3f}"
    assert list(bar.get_yticks()) == [-1, -0.5, 0, 0.5, 1]
    assert figure.get_suptitle() == "lsh, 12 bits"


def test_one_bit_can_be_drawn(tmp_path):
    figure = draw_bits(bit_diagnostics(torch.tensor([[1], [0]], dtype=torch.uint8), 1))
    assert not is_blank(save_figure(figure, tmp_path / "bits.png"))
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_files_are_the_same_each_time(tmp_path, ending):
    files = []
    for name in ("one", "two"):
        figure = draw_pr_curve(RECALL, PRECISION, title="itq")
        files.append(save_figure(figure, tmp_path / "new folder" / f"{name}.{ending}").read_bytes())
    assert files[0] == files[1]
    changed = save_figure(draw_pr_curve(RECALL, PRECISION, title="lsh"), tmp_path / f"other.{ending}")
    assert changed.read_bytes() != files[0]
    assert {path.name for path in (tmp_path / "new folder").iterdir()} == {f"one.{ending}", f"two.{ending}"}


def test_png_opens_at_print_resolution(tmp_path):
    path = save_figure(draw_bits(bit_diagnostics(pack(bits_of(300)), 300)), tmp_path / "bits.png")
    assert not is_blank(path)
    with Image.open(path) as image:
        assert image.size == (2100, 990)
        assert "Date" not in image.info


def test_unknown_endings_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"the ending of curve.bmp='bmp'; expected one of: pdf, png, svg"):
        save_figure(draw_pr_curve(RECALL, PRECISION), tmp_path / "curve.bmp")


def test_drawing_leaves_the_users_settings_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    save_figure(draw_pr_curve(RECALL, PRECISION), tmp_path / "curve.png")
    assert dict(matplotlib.rcParams) == before
