"""Search by a prefix and then by the whole code: against a plain two-stage search, and against a scan."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deephash
from deephash.codes import cut_codes, pack, unpack
from deephash.validation import InvalidInputError


def plain_search(queries, codes, bits, prefix, k, depth):
    """Both stages by NumPy, bit by bit; candidates and results are ordered by distance, then by row."""
    apart = unpack(queries, bits).numpy()[:, None] ^ unpack(codes, bits).numpy()[None]
    whole, first = apart.sum(2), apart[:, :, :prefix].sum(2)
    candidates = np.argsort(first, axis=1, kind="stable")[:, :depth]
    candidates.sort(1)
    order = np.argsort(np.take_along_axis(whole, candidates, 1), axis=1, kind="stable")[:, :k]
    ids = np.take_along_axis(candidates, order, 1)
    return np.take_along_axis(whole, ids, 1), ids


def random_codes(rows, bits, seed):
    return pack(torch.rand(rows, bits, generator=torch.Generator().manual_seed(seed)) < 0.5)


@settings(max_examples=40, deadline=None)
@given(
    bits=st.integers(2, 200),
    share=st.floats(0, 1),
    rows=st.integers(1, 90),
    k=st.integers(1, 90),
    factor=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_to_a_plain_two_stage_search(bits, share, rows, k, factor, seed):
    prefix, k = min(bits - 1, 1 + int(share * (bits - 1))), min(k, rows)
    codes, queries = random_codes(rows, bits, seed), random_codes(5, bits, seed + 1)
    index = deephash.index(codes, "prefix", bits=bits, prefix=prefix, factor=factor)
    distances, ids = index.search(queries, k)
    expected = plain_search(queries, codes, bits, prefix, k, min(rows, k * factor))
    np.testing.assert_array_equal(distances, expected[0])
    np.testing.assert_array_equal(ids, expected[1])


@pytest.mark.parametrize("over", ["flat", "mih"])
@settings(max_examples=30, deadline=None)
@given(
    bits=st.integers(2, 140),
    rows=st.integers(1, 400),
    k=st.integers(1, 12),
    factor=st.integers(1, 5),
    flipped=st.sampled_from([0.0, 0.05, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_an_exact_search_is_a_scan(over, bits, rows, k, factor, flipped, seed):
    """Near neighbours end it by the bound, far ones by a scan."""
    generator = torch.Generator().manual_seed(seed)
    codes = random_codes(rows, bits, seed)
    picked = unpack(codes, bits)[torch.randint(rows, (6,), generator=generator)]
    queries = pack(picked ^ (torch.rand(6, bits, generator=generator) < flipped))
    index = deephash.index(codes, "prefix", bits=bits, over=over, factor=factor, approximate=False)
    assert index.exact
    found = index.search(queries, min(k, rows))
    expected = deephash.index(codes, "flat", bits=bits).search(queries, min(k, rows))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_blocks_and_threads_change_nothing(monkeypatch):
    codes, queries = random_codes(900, 128, 1), random_codes(70, 128, 2)
    expected = deephash.index(codes, "prefix", prefix=24, factor=7).search(queries, 9)
    monkeypatch.setattr("deephash.indexes.prefix.BLOCK_BYTES", 16 * 63 * 3)
    found = deephash.index(codes, "prefix", prefix=24, factor=7, threads=3).search(queries, 9)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("over", ["faiss_flat", "faiss_hnsw", "faiss_ivf", "usearch"])
def test_other_kinds_hold_the_prefixes(over, tmp_path):
    if over == "usearch":
        pytest.importorskip("usearch")
    codes = random_codes(600, 128, 1)
    index = deephash.index(codes, "prefix", prefix=64, over=over)
    distances, ids = index.search(codes[:20], 3)
    assert ids[:, 0].tolist() == list(range(20))
    index.save(tmp_path / "saved")
    assert torch.equal(deephash.load_index(tmp_path / "saved").search(codes[:20], 3)[0], distances)


def test_items_are_added_and_removed_and_filtered():
    codes = random_codes(300, 96, 1)
    index = deephash.index(codes[:200], "prefix", prefix=32, factor=4, names=[f"n{row}" for row in range(200)])
    index.add(codes[200:], names=[f"n{row}" for row in range(200, 300)])
    assert index.search(codes[250:251], 1)[1].tolist() == [[250]]
    index.remove(["n250"])
    assert 250 not in index.search(codes[250:251], 299)[1]
    index.compact()
    assert index.search(codes[251:252], 1)[1].tolist() == [[251]]
    assert index.search(codes[:1], 2, where=["n7", "n9"])[1].sort().values.tolist() == [[7, 9]]


def test_bad_settings_are_refused():
    codes = random_codes(20, 64, 1)
    for prefix in (0, 64, 2.5):
        with pytest.raises(InvalidInputError, match=f"prefix={prefix}; expected a whole number from 1 to 63"):
            deephash.index(codes, "prefix", prefix=prefix)
    with pytest.raises(InvalidInputError, match="factor=0; expected a whole number of at least 1"):
        deephash.index(codes, "prefix", factor=0)
    for over in ("prefix", "duckdb"):
        with pytest.raises(InvalidInputError, match=f"over={over} cannot hold prefixes; use flat, mih or gpu"):
            deephash.index(codes, "prefix", over=over)
    with pytest.raises(InvalidInputError, match="over='nonsense'; expected one of"):
        deephash.index(codes, "prefix", over="nonsense")
    for over in ("faiss_hnsw", "usearch"):
        with pytest.raises(InvalidInputError, match=f"over={over} is approximate; leave approximate=True"):
            deephash.index(codes, "prefix", over=over, approximate=False)
    with pytest.raises(InvalidInputError, match="codes have 1 bits; kind=prefix needs at least 2"):
        deephash.index(codes[:, :1] & 1, "prefix", bits=1)


def test_cut_codes_keeps_the_first_bits():
    bits = torch.rand(9, 37, generator=torch.Generator().manual_seed(0)) < 0.5
    for length in (1, 7, 8, 9, 16, 36, 37):
        assert torch.equal(cut_codes(pack(bits), length), pack(bits[:, :length]))
    assert cut_codes(pack(bits).numpy(), 8).is_contiguous()
    with pytest.raises(InvalidInputError, match="at least 6 bytes for a prefix of 41 bits"):
        cut_codes(pack(bits), 41)
    with pytest.raises(InvalidInputError, match="bits=0"):
        cut_codes(pack(bits), 0)
