"""The scan of tiles in vector instructions against sums over bits, exactly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.codes import as_codes, code_bytes, pack, unpack
from deephash.compression import asymmetric_scan
from deephash.compression.asymmetric_scan import AsymmetricScan
from deephash.compression.linear_decoder import LinearDecoder
from deephash.compression.tiled_codes import TiledCodes
from deephash.ranking.numba_vectors import SHUFFLES

pytestmark = pytest.mark.skipif(not SHUFFLES, reason="the processor has no byte shuffles (AVX2)")


def naive(codes, weights, offsets, lengths, k):
    """All scores in float64, ordered by score and then by id. Small whole numbers make them exact."""
    signs = 2.0 * unpack(codes, weights.shape[1]).double() - 1
    scores = ((weights.double() @ signs.T + offsets.double()[:, None]) / lengths.double()).float()
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores.gather(1, order), order


@st.composite
def cases(draw):
    bits, items = draw(st.integers(1, 90)), draw(st.integers(1, 400))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    codes = pack(torch.randint(0, draw(st.integers(1, 2)) + 1, (items, bits), generator=generator) > 0)
    queries = draw(st.integers(1, 3))
    largest = draw(st.sampled_from([0, 1, 50]))
    weights = torch.randint(-largest, largest + 1, (queries, bits), generator=generator).float()
    offsets = torch.randint(-1000, 1001, (queries,), generator=generator).float() * draw(st.sampled_from([0, 1]))
    steps = draw(st.sampled_from([None, 1, 256]))
    chosen = None if steps is None else torch.randint(0, steps, (items,), generator=generator).to(torch.uint8)
    return codes, weights, offsets, chosen, draw(st.integers(1, items))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_scores_and_ties_are_those_of_plain_sums(case):
    codes, weights, offsets, steps, k = case
    # Powers of two keep all lengths and quotients exact enough to compare, and ties equal.
    shortest, step = 0.5, 0.0625 if steps is not None else 0.0
    lengths = torch.full((len(codes),), shortest) if steps is None else shortest + step * steps.float()
    scores, ids = TiledCodes(codes, steps, shortest, step).search(weights, offsets, k)
    expected, order = naive(codes, weights, offsets, lengths, k)
    assert torch.equal(scores, expected)
    assert torch.equal(ids, order)


@pytest.mark.parametrize("bits", [20, 128, 1024, 2056])
@pytest.mark.parametrize("k", [1, 300])
def test_many_items_of_many_tiles(bits, k):
    generator = torch.Generator().manual_seed(bits + k)
    codes = pack(torch.rand(1_280_000 // bits + 1, bits, generator=generator) < 0.5)
    weights = torch.randint(-9, 10, (2, bits), generator=generator).float()
    steps = torch.randint(0, 256, (len(codes),), generator=generator).to(torch.uint8)
    scores, ids = TiledCodes(codes, steps, 0.75, 2**-8).search(weights, torch.tensor([3.0, -70.0]), k)
    expected, order = naive(codes, weights, torch.tensor([3.0, -70.0]), 0.75 + steps.float() / 256, k)
    assert torch.equal(scores, expected)
    assert torch.equal(ids, order)


def test_shares_of_the_database_give_the_same_result(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, (9_000, 4), dtype=torch.uint8, generator=generator)
    tiled, weights = TiledCodes(codes), torch.randint(-3, 4, (1, 32), generator=generator).float()
    whole = tiled.search(weights, torch.zeros(1), 40)
    monkeypatch.setattr("deephash.compression.tiled_codes.SHARE_BYTES", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    parts = tiled.search(weights, torch.zeros(1), 40)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


def test_results_in_parts_are_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    tiled = TiledCodes(torch.randint(0, 256, (500, 2), dtype=torch.uint8, generator=generator))
    weights = torch.randn(11, 16, generator=generator)
    whole = tiled.search(weights, torch.zeros(11), 20)
    monkeypatch.setattr("deephash.compression.tiled_codes.RESULT_BYTES", 12 * 20 * 3)
    parts = tiled.search(weights, torch.zeros(11), 20)
    assert torch.equal(whole[1], parts[1])


def test_codes_are_read_back():
    codes = torch.randint(0, 256, (130, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(TiledCodes(codes, codes[:, 0].contiguous()).read_codes(), codes)


@pytest.mark.parametrize("measure", ["cosine", "inner_product"])
def test_both_scans_find_the_same(measure, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(20_000, 40, generator=generator) - 0.4
    codes = pack(vectors @ torch.randn(40, 75, generator=generator) >= 0)
    assert as_codes(codes).shape[1] == code_bytes(75)
    decoder = LinearDecoder.fit(codes, vectors, 75)
    tiled = AsymmetricScan(codes, decoder, measure=measure)
    monkeypatch.setattr(asymmetric_scan, "SHUFFLES", False)
    products = AsymmetricScan(codes, decoder, measure=measure)
    assert (tiled.item_bytes, products.item_bytes) == (10 + (measure == "cosine"),) * 2
    assert torch.equal(tiled.codes, products.codes)
    one, other = tiled.search(vectors[:200], 50), products.search(vectors[:200], 50)
    np.testing.assert_allclose(one[0], other[0], rtol=2e-5, atol=1e-5)
    assert (one[1] == other[1]).double().mean() > 0.99  # Rounding orders near ties differently.
