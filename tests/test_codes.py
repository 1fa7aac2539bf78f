"""Packing against NumPy, and its errors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deephash.codes import check_codes, code_bytes, hard_bits, pack, swap_bit_order, unpack
from deephash.validation import InvalidInputError


def random_bits(n, b, seed=0):
    return torch.rand(n, b, generator=torch.Generator().manual_seed(seed)) < 0.5


@given(n=st.integers(0, 5), b=st.integers(1, 70))
def test_pack_is_numpys_little_endian_and_unpack_its_inverse(n, b):
    bits = random_bits(n, b)
    codes = pack(bits)
    assert codes.dtype == torch.uint8
    assert codes.shape == (n, code_bytes(b))
    assert np.array_equal(codes.numpy(), np.packbits(bits.numpy(), axis=1, bitorder="little"))
    assert torch.equal(unpack(codes, b), bits)


@pytest.mark.parametrize("b", [1, 7, 8, 9, 64, 1024])
def test_bit_j_is_bit_j_mod_8_of_byte_j_div_8(b):
    for j in {0, b // 2, b - 1}:
        bits = torch.zeros(1, b, dtype=torch.bool)
        bits[0, j] = True
        expected = torch.zeros(1, code_bytes(b), dtype=torch.uint8)
        expected[0, j // 8] = 1 << (j % 8)
        assert torch.equal(pack(bits), expected)


def test_padding_is_zero():
    assert int(pack(torch.ones(1, 11, dtype=torch.bool))[0, 1]) == 0b111


def test_zero_margin_gives_one():
    assert hard_bits(torch.tensor([-1.0, -0.0, 0.0, 1e-30, -1e-30])).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(("bits", "width"), [(1, 1), (8, 1), (9, 2), (64, 8), (1024, 128)])
def test_code_bytes(bits, width):
    assert code_bytes(bits) == width


def test_codes_of_wrong_dtype_or_width_are_refused():
    with pytest.raises(InvalidInputError, match=r"database codes have dtype torch.int64; packed codes are torch.uint8"):
        check_codes(torch.zeros(2, 2, dtype=torch.int64), 16, "database codes")
    with pytest.raises(InvalidInputError, match=r"have shape \(2, 3\); codes of 16 bits are packed as \(n, 2\)"):
        unpack(torch.zeros(2, 3, dtype=torch.uint8), 16)
    with pytest.raises(InvalidInputError, match=r"have shape \(2,\)"):
        check_codes(torch.zeros(2, dtype=torch.uint8), 16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pack_on_a_gpu_equals_the_cpu():
    for n, b in ((0, 9), (1, 1), (5, 70)):
        bits = random_bits(n, b)
        assert torch.equal(pack(bits.cuda()).cpu(), pack(bits))


@given(n=st.integers(0, 5), b=st.integers(1, 70))
def test_codes_go_to_numpys_default_order_and_back(n, b):
    bits = random_bits(n, b)
    big = np.packbits(bits.numpy(), axis=1)
    assert torch.equal(swap_bit_order(big), pack(bits))
    assert np.array_equal(swap_bit_order(pack(bits)).numpy(), big)


def test_binary_embeddings_of_sentence_transformers_become_codes():
    util = pytest.importorskip("sentence_transformers.util", reason="sentence-transformers is absent")
    embeddings = np.random.default_rng(0).normal(size=(7, 24)).astype(np.float32)
    codes = pack(torch.from_numpy(embeddings > 0))
    assert torch.equal(swap_bit_order(util.quantize_embeddings(embeddings, "ubinary")), codes)
    signed = util.quantize_embeddings(embeddings, "binary")
    assert torch.equal(swap_bit_order((signed.astype(np.int16) + 128).astype(np.uint8)), codes)


def test_swapped_codes_must_be_bytes():
    with pytest.raises(InvalidInputError, match="packed codes are uint8"):
        swap_bit_order(np.zeros((2, 3), np.int8))
