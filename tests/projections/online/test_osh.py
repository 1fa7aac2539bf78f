"""OSH: the guarantee of the sketch, the mean that moves, and the directions."""

import numpy as np
import pytest
import torch

from deephash.projections.online.osh import OSH, frequent_directions
from deephash.projections.pcah import PCAH
from deephash.validation import InvalidInputError

GENERATOR = torch.Generator().manual_seed(0)


def rows_of(n=500, d=30):
    mixing = torch.randn(d, d, generator=GENERATOR, dtype=torch.float64) / torch.arange(1, d + 1) ** 0.5
    return torch.randn(n, d, generator=GENERATOR, dtype=torch.float64) @ mixing


@pytest.mark.parametrize("size", [8, 16])
def test_the_sketch_keeps_its_guarantee(size):
    rows, sketch = rows_of(), torch.zeros(size, 30, dtype=torch.float64)
    for batch in rows.split(37):
        sketch = frequent_directions(sketch, batch)
    gap = torch.linalg.eigvalsh(rows.T @ rows - sketch.T @ sketch)
    assert float(gap.min()) > -1e-6
    assert float(gap.max()) <= 2 * float(rows.square().sum()) / size
    assert float(gap.max()) > 0.01 * float(rows.square().sum()) / size  # it is a sketch, not the data


def numpy_frequent_directions(rows, size):
    """Row by row, as the algorithm is printed."""
    sketch, used = np.zeros((size, rows.shape[1])), 0
    for row in rows:
        sketch[used] = row
        used += 1
        if used == size:
            _, s, vt = np.linalg.svd(sketch, full_matrices=False)
            shrunk = np.sqrt(np.maximum(s**2 - s[size // 2 - 1] ** 2, 0))
            sketch = shrunk[:, None] * vt
            used = size // 2 - 1
            sketch[used:] = 0
    return sketch


def test_the_sketch_equals_a_plain_version():
    rows, sketch = rows_of(100), torch.zeros(8, 30, dtype=torch.float64)
    for batch in rows.split(13):
        sketch = frequent_directions(sketch, batch)
    expected = numpy_frequent_directions(rows.numpy(), 8)
    np.testing.assert_allclose(sketch.T @ sketch, expected.T @ expected, atol=1e-9)


def test_nothing_is_lost_of_few_dimensions():
    rows, sketch = rows_of(300)[:, :3], torch.zeros(12, 3, dtype=torch.float64)
    for batch in rows.split(50):
        sketch = frequent_directions(sketch, batch)
    assert torch.allclose(sketch.T @ sketch, rows.T @ rows)


def test_a_mean_that_moves_is_compensated():
    """Where the sketch loses nothing, it is the scatter about the mean of all, and the space is PCA's."""
    rows = rows_of(400, 6) + torch.linspace(0, 9, 400, dtype=torch.float64)[:, None]
    projection = OSH(6, 3, sketch_rows=16).double()
    for batch in rows.split(50):
        projection.partial_fit(batch)
    centred = rows - rows.mean(0)
    assert torch.allclose(projection.sketch.T @ projection.sketch, centred.T @ centred)
    assert torch.allclose(projection.mean, rows.mean(0))
    components = PCAH(6, 3).double().fit(rows).directions
    directions = projection.directions
    assert torch.allclose(directions.T @ directions, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(directions @ directions.T, components @ components.T, atol=1e-8)


def test_sizes_are_refused():
    with pytest.raises(InvalidInputError, match="sketch_rows=9; expected an even number of at least 10"):
        OSH(30, 4, sketch_rows=9)
    with pytest.raises(InvalidInputError, match="sketch_rows=8; expected an even number of at least 10"):
        OSH(30, 4, sketch_rows=8)
