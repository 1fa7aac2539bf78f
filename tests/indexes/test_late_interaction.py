"""Late interaction over codes: against NumPy, on the CPU and by the interpreted Triton kernel."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.codes import pack, unpack
from deephash.indexes import late_interaction
from deephash.indexes.late_interaction import LateInteraction, search_on_device
from deephash.validation import InvalidInputError

sys.path.insert(0, str(Path(__file__).parents[1] / "ranking"))

import itertools

from interpreted import compile_ptx, compiled, interpreted, run_interpreted


def make_collection(documents, bits, seed, least=0, most=7):
    """Codes of documents of random lengths, near some of few centres, so that there are ties; and their offsets."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(least, most + 1, (documents,), generator=generator)
    centres = torch.rand(5, bits, generator=generator) < 0.5
    tokens = centres[torch.randint(5, (int(lengths.sum()),), generator=generator)]
    tokens = tokens ^ (torch.rand(tokens.shape, generator=generator) < 0.1)
    return pack(tokens), torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])


def plain_search(codes, offsets, query_codes, query_offsets, bits, k, among=None):
    """All distances, token by token and bit by bit, then a stable sort of the documents that have tokens."""
    items, tokens = unpack(codes, bits).numpy(), unpack(query_codes, bits).numpy()
    distances, ids = [], []
    for query, (first, last) in enumerate(itertools.pairwise(query_offsets)):
        listed = range(len(offsets) - 1) if among is None else sorted({int(i) for i in among[query]} - {-1})
        scored = [
            (int((tokens[first:last, None] ^ items[None, offsets[i] : offsets[i + 1]]).sum(2).min(1).sum()), i)
            for i in listed
            if offsets[i] < offsets[i + 1]
        ]
        best = sorted(scored)[:k]
        best += [((bits + 1) * int(last - first), -1)] * (k - len(best))
        distances.append([distance for distance, _ in best])
        ids.append([i for _, i in best])
    return np.array(distances), np.array(ids)


CASES = {
    "documents": st.integers(1, 40),
    "bits": st.sampled_from([1, 7, 32, 64, 65, 128, 200]),
    "queries": st.integers(1, 5),
    "share": st.floats(0, 1),
    "seed": st.integers(0, 2**31),
}


def make_case(documents, bits, queries, share, seed):
    codes, offsets = make_collection(documents, bits, seed)
    query_codes, query_offsets = make_collection(queries, bits, seed + 1, least=1)
    among = torch.randint(-1, documents, (queries, 6), generator=torch.Generator().manual_seed(seed))
    return codes, offsets, query_codes, query_offsets, 1 + int(share * (documents - 1)), among


@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_equal_to_plain_numpy(documents, bits, queries, share, seed):
    codes, offsets, query_codes, query_offsets, k, among = make_case(documents, bits, queries, share, seed)
    if not len(codes):
        return
    index = LateInteraction(codes, offsets, bits)
    for listed in (None, among):
        found = index.search(query_codes, query_offsets, k, listed)
        expected = plain_search(codes, offsets, query_codes, query_offsets, bits, k, listed)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_the_order_is_that_of_the_sum_of_cosines():
    codes, offsets = make_collection(50, 64, 0, least=1)
    query_codes, query_offsets = make_collection(1, 64, 1, least=4)
    distances, ids = LateInteraction(codes, offsets).search(query_codes, query_offsets, 50)
    signs, query = 2.0 * unpack(codes, 64) - 1, 2.0 * unpack(query_codes, 64) - 1
    scores = torch.stack([(query @ signs[a:b].T / 64).max(1).values.sum() for a, b in itertools.pairwise(offsets)])
    assert torch.allclose(len(query) - 2 * distances[0] / 64, scores[ids[0]])
    assert bool((scores[ids[0]].diff() <= 1e-6).all())


def test_two_stages_take_candidates_by_the_prefix():
    codes, offsets = make_collection(60, 128, 0)
    query_codes, query_offsets = make_collection(3, 128, 1, least=1)
    index = LateInteraction(codes, offsets, prefix=24, factor=4)
    found = index.search(query_codes, query_offsets, 5)
    cut = [pack(unpack(given, 128)[:, :24]) for given in (codes, query_codes)]
    candidates = plain_search(cut[0], offsets, cut[1], query_offsets, 24, 20)[1]
    expected = plain_search(codes, offsets, query_codes, query_offsets, 128, 5, candidates)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    everything = LateInteraction(codes, offsets, prefix=24, factor=12).search(query_codes, query_offsets, 5)
    assert torch.equal(everything[0], LateInteraction(codes, offsets).search(query_codes, query_offsets, 5)[0])


def test_threads_change_nothing():
    codes, offsets = make_collection(80, 96, 0)
    query_codes, query_offsets = make_collection(150, 96, 1, least=1)
    one, three = (LateInteraction(codes, offsets, threads=n).search(query_codes, query_offsets) for n in (1, 3))
    assert torch.equal(one[0], three[0])
    assert torch.equal(one[1], three[1])


@pytest.mark.ci
@compiled
def test_the_kernel_of_gpus_interpreted():
    run_interpreted(__file__)


@interpreted
@pytest.mark.parametrize(("seed", "bits", "tile", "memory"), [(1, 40, 4, 2**9), (2, 7, 16, 2**20)])
def test_equal_on_a_device(seed, bits, tile, memory, monkeypatch):
    monkeypatch.setattr(late_interaction, "TOKENS", tile)
    monkeypatch.setattr(late_interaction, "ITEMS", tile)
    monkeypatch.setattr(late_interaction, "BLOCK_BYTES", memory)
    codes, offsets, query_codes, query_offsets, k, among = make_case(5, bits, 2, 0.8, seed)
    queries, items = (
        torch.nn.functional.pad(given, (0, -given.shape[1] % 4)).contiguous().view(torch.int32)
        for given in (query_codes, codes)
    )
    for listed in (None, among):
        columns = torch.empty(2, 0, dtype=torch.int64)
        if listed is not None:
            columns = LateInteraction(codes, offsets, bits)._check_among(listed, 2)
        found = search_on_device(queries, query_offsets, items, offsets, bits + 1, columns, k)
        expected = plain_search(codes, offsets, query_codes, query_offsets, bits, k, listed)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    codes, offsets = make_collection(3000, 128, 0)
    query_codes, query_offsets = make_collection(40, 128, 1, least=1, most=40)
    expected = LateInteraction(codes, offsets).search(query_codes, query_offsets, 20)
    found = LateInteraction(codes.cuda(), offsets).search(query_codes, query_offsets, 20)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_bad_input_is_refused():
    codes, offsets = make_collection(4, 64, 0, least=1)
    index = LateInteraction(codes, offsets)
    for bad in (offsets[1:], offsets[:-1], offsets.flip(0), offsets.double(), offsets[None]):
        with pytest.raises(InvalidInputError, match=r"offsets have shape .* expected whole numbers that ascend from 0"):
            LateInteraction(codes, bad)
    with pytest.raises(InvalidInputError, match="query 1 has no tokens; leave it out"):
        index.search(codes[:2], [0, 2, 2])
    with pytest.raises(InvalidInputError, match="k=5; expected a whole number from 1 to 4"):
        index.search(codes[:2], [0, 2], 5)
    with pytest.raises(InvalidInputError, match="among contains 4; expected ids from 0 to 3, or -1 for none"):
        index.search(codes[:2], [0, 2], 1, [[0, 4]])
    with pytest.raises(InvalidInputError, match=r"among has shape .* a row of document ids for each query"):
        index.search(codes[:2], [0, 2], 1, [0, 1])
    with pytest.raises(InvalidInputError, match="prefix=64; expected a whole number from 1 to 63"):
        LateInteraction(codes, offsets, prefix=64)
    with pytest.raises(InvalidInputError, match="query codes have shape"):
        index.search(codes[:2, :4], [0, 2])


@compiled
def test_compiles_for_a_gpu_without_one():
    from deephash.ranking.triton_late_interaction import document_distances_kernel

    signature = {"queries": "*i32", "query_starts": "*i64", "codes": "*i32", "starts": "*i64", "documents": "*i64"}
    signature |= {"distances": "*i32", "n_documents": "i32", "stride": "i32", "width": "i32", "farthest": "i32"}
    assert "popc" in compile_ptx(document_distances_kernel, signature, {"TOKENS": 32, "ITEMS": 32})
