"""Encodings of regions between thresholds, against tables and plain counting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.quantizers.threshold_encodings import (
    bit_margins,
    double_bit_encoding,
    encode_regions,
    hierarchical_encoding,
    natural_binary_encoding,
    region_numbers,
    threshold_between,
)

ENCODINGS = {
    "single": natural_binary_encoding(1),
    "double": double_bit_encoding(),
    "hierarchical": hierarchical_encoding(),
    **{f"natural {q}": natural_binary_encoding(q) for q in (1, 2, 3, 4, 6)},
}


def words(encoding):
    return ["".join(str(int(bit)) for bit in row) for row in encoding]


def test_tables_are_the_papers():
    assert words(natural_binary_encoding(1)) == ["0", "1"]
    assert words(double_bit_encoding()) == ["01", "00", "10"]
    assert words(hierarchical_encoding()) == ["01", "00", "10", "11"]
    assert words(natural_binary_encoding(2)) == ["00", "10", "01", "11"]
    for q in range(1, 9):
        numbers = natural_binary_encoding(q).numpy() @ 2 ** np.arange(q)
        assert numbers.tolist() == list(range(2**q))


def test_double_bits_differ_as_much_as_their_regions():
    table = double_bit_encoding()
    assert (table[:, None] ^ table[None]).sum(-1).tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(ENCODINGS)), st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(1, 5))
def test_bits_are_those_of_the_region(name, seed, n, k):
    """Values on a coarse grid meet thresholds exactly, and thresholds coincide or come unsorted."""
    encoding = ENCODINGS[name]
    rng = np.random.default_rng(seed)
    z = rng.integers(-4, 5, (n, k)).astype(np.float32)
    thresholds = rng.integers(-4, 5, (k, len(encoding) - 1)).astype(np.float32)
    expected = np.zeros((n, k * encoding.shape[1]), bool)
    regions = np.zeros((n, k), np.int64)
    for i in range(n):
        for j in range(k):
            regions[i, j] = sum(z[i, j] >= threshold for threshold in thresholds[j])
            expected[i, j * encoding.shape[1] : (j + 1) * encoding.shape[1]] = encoding[regions[i, j]].numpy()
    given_tensors = torch.from_numpy(z), torch.from_numpy(thresholds)
    np.testing.assert_array_equal(region_numbers(*given_tensors).numpy(), regions)
    np.testing.assert_array_equal(encode_regions(*given_tensors, encoding).numpy(), expected)
    margins = bit_margins(*given_tensors, encoding)
    np.testing.assert_array_equal((margins >= 0).numpy(), expected)


def test_one_threshold_has_the_margin_of_one_bit():
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    thresholds = torch.tensor([[0.5], [-0.2], [0.0]])
    assert torch.equal(bit_margins(z, thresholds, natural_binary_encoding(1)), z - thresholds[:, 0])


def test_margins_are_distances_from_the_nearest_flip():
    thresholds = torch.tensor([[-1.0, 0.0, 3.0]])
    margins = bit_margins(torch.tensor([[-1.5], [-0.75], [0.25], [2.5], [7.0]]), thresholds, natural_binary_encoding(2))
    low, high = margins.unbind(1)
    assert low.tolist() == [-0.5, 0.25, -0.25, -0.5, 4.0]
    assert high.tolist() == [-1.5, -0.75, 0.25, 2.5, 7.0]


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_margins_have_the_right_gradients_and_reach_every_threshold(name):
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(2000, 2, generator=generator, dtype=torch.float64).requires_grad_()
    thresholds = torch.linspace(-1.5, 1.4, len(ENCODINGS[name]) - 1, dtype=torch.float64).expand(2, -1).clone()
    thresholds.requires_grad_()
    bit_margins(z, thresholds, ENCODINGS[name]).square().sum().backward()
    assert bool((thresholds.grad != 0).all())
    assert bool((z.grad != 0).all())
    assert torch.autograd.gradcheck(lambda a, b: bit_margins(a, b, ENCODINGS[name]), (z[:5], thresholds))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_threshold_parts_even_neighbouring_floats(dtype):
    lower = torch.tensor([1.0, -1.0, 0.0, -3e-8, 1.0], dtype=dtype)
    upper = torch.nextafter(lower.float(), torch.tensor(9.0)).to(dtype) if dtype != torch.float16 else lower + 0.001
    upper[-1] = 3.0
    threshold = threshold_between(lower, upper)
    assert bool((lower < threshold).all())
    assert bool((threshold <= upper).all())
    assert threshold[-1] == 2
