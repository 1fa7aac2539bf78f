"""Bit statistics against plain NumPy, on codes of real digits and on hand-made ones."""

import json

import numpy as np
import pytest
import torch

from deephash.codes import pack
from deephash.report import diagnostics as module
from deephash.report.diagnostics import bit_correlation, bit_diagnostics, bit_entropy, count_distinct, joint_ones
from deephash.validation import InvalidInputError


@pytest.fixture(scope="module")
def digit_bits(mnist_pixels):
    """Signs of the leading 20 principal components of 5,000 MNIST digits, some spoilt: bool (5000, 21)."""
    centred = mnist_pixels - mnist_pixels.mean(0)
    vectors = np.linalg.eigh(centred.T @ centred)[1]
    margins = centred @ vectors[:, ::-1][:, :20]
    bits = margins >= 0
    bits[:, 3] = True
    bits[:, 5] = margins[:, 5] >= np.quantile(margins[:, 5], 0.95)
    return np.concatenate([bits, ~bits[:, :1]], axis=1)


@pytest.fixture(scope="module")
def found(digit_bits):
    return bit_diagnostics(pack(torch.from_numpy(digit_bits)), 21)


def test_shares_and_entropy_are_numpys(digit_bits, found):
    shares = digit_bits.mean(0)
    np.testing.assert_allclose(found.ones, shares, rtol=1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nan_to_num(shares * np.log2(shares)) - np.nan_to_num((1 - shares) * np.log2(1 - shares))
    np.testing.assert_allclose(found.entropy, entropy, atol=1e-12)
    assert found.entropy[3] == 0


def test_correlation_is_numpys(digit_bits, found):
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.corrcoef(digit_bits.T.astype(float))
    np.testing.assert_allclose(found.correlation, expected, atol=1e-12, equal_nan=True)
    assert found.correlation[3].isnan().all()
    assert torch.equal(found.correlation.nan_to_num(), found.correlation.T.nan_to_num())
    upper = np.abs(expected[np.triu_indices(21, 1)])
    upper = upper[~np.isnan(upper)]
    assert found.mean_correlation == pytest.approx(upper.mean())
    assert found.largest_correlation == pytest.approx(1.0)
    assert found.most_correlated == (0, 20)
    assert found.correlated_pairs == (upper >= 0.8).sum() == 1


def test_spoilt_bits_are_found(digit_bits, found):
    assert found.dead_bits == [3]
    assert found.unbalanced_bits == [5]
    assert found.distinct_codes == len(np.unique(digit_bits, axis=0))
    assert (found.items, found.bits) == (5000, 21)


def test_blocks_do_not_change_the_counts(digit_bits, monkeypatch):
    codes = pack(torch.from_numpy(digit_bits))
    whole = joint_ones(codes, 21)
    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * 21 * 7)
    assert torch.equal(joint_ones(codes, 21), whole)
    expected = digit_bits.T.astype(np.int64) @ digit_bits
    np.testing.assert_array_equal(whole, expected)


@pytest.mark.parametrize("bits", [1, 7, 8, 64, 65, 130])
def test_distinct_codes_of_any_width(bits):
    generator = torch.Generator().manual_seed(bits)
    few = torch.rand(40, bits, generator=generator) < 0.5
    codes = pack(few[torch.randint(40, (500,), generator=generator)])
    assert count_distinct(codes) == len(np.unique(codes.numpy(), axis=0))


def test_one_bit_and_one_item():
    one_bit = bit_diagnostics(torch.tensor([[1], [0], [1]], dtype=torch.uint8), 1)
    assert one_bit.mean_correlation is None
    assert one_bit.largest_correlation is None
    assert one_bit.most_correlated is None
    assert one_bit.correlation.tolist() == [[1.0]]
    one_item = bit_diagnostics(torch.tensor([[5]], dtype=torch.uint8), 3)
    assert one_item.dead_bits == [0, 1, 2]
    assert one_item.distinct_codes == 1
    assert one_item.correlation.isnan().all()


def test_entropy_of_known_shares():
    shares = torch.tensor([0.0, 0.5, 1.0, 0.25], dtype=torch.float64)
    expected = torch.tensor([0.0, 1.0, 0.0, 0.8112781244591328], dtype=torch.float64)
    torch.testing.assert_close(bit_entropy(shares), expected, rtol=0, atol=1e-15)


def test_correlation_of_complements_is_minus_one():
    bits = torch.tensor([[True, False], [False, True], [True, False]])
    counts = joint_ones(pack(bits), 2)
    expected = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(bit_correlation(counts, 3), expected)


def test_as_dict_is_json(found):
    again = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert again["dead_bits"] == [3]
    assert again["most_correlated"] == [0, 20]
    assert len(again["ones"]) == len(again["entropy"]) == 21
    assert "correlation" not in again


@pytest.mark.parametrize(
    ("codes", "bits", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), 16, r"codes have dtype torch.int64; packed codes are torch.uint8"),
        (
            torch.zeros(3, 2, dtype=torch.uint8),
            17,
            r"codes have shape \(3, 2\); codes of 17 bits are packed as \(n, 3\)",
        ),
        (torch.zeros(0, 2, dtype=torch.uint8), 16, r"codes have 0 rows; diagnostics need at least one code"),
        (torch.zeros(3, 2, dtype=torch.uint8), 0, r"bits=0; expected a whole number of at least 1"),
    ],
)
def test_wrong_codes_are_refused(codes, bits, message):
    with pytest.raises(InvalidInputError, match=message):
        bit_diagnostics(codes, bits)
