"""Every form of counting and every way of listing on a GPU: interpreted here, and compiled where there is a GPU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted import compile_ptx, compiled, interpreted, run_interpreted
from naive_ranking import assert_equals_naive, cases, make_case, naive_rank, naive_search

pytest.importorskip("triton")

from deephash.codes import pack
from deephash.ranking import bit_planes, gpu_lists, triton_kernels, triton_pairs, triton_planes, triton_tiles
from deephash.ranking.bit_planes import BlockedCodes
from deephash.ranking.distance import Hamming
from deephash.ranking.gpu_forms import FORMS, choose_form, choose_lists, choose_planes_lists, list_forms
from deephash.ranking.gpu_lists import LISTS, sample_stride
from deephash.ranking.plane_queries import PlaneQueries
from deephash.ranking.torch_engine import TorchEngine
from deephash.ranking.triton_engine import TritonEngine
from deephash.validation import InvalidInputError

pytestmark = pytest.mark.skipif(not triton_kernels.COUNTS_UNDER_MASK, reason="Triton counts no histogram under a mask")


@compiled
@pytest.mark.ci
def test_interpreted():
    assert "10 passed" in run_interpreted(__file__)


def assert_counts_equal_naive(engine, case):
    counts = engine.rank(case.query_codes, case.database_codes, case.distance, case.relevance)
    total, relevant = naive_rank(case)
    assert counts.total.tolist() == total.tolist()
    assert counts.relevant.tolist() == relevant.tolist()


def assert_lists_equal_naive(engine, case, k):
    distances, items = engine.search(case.query_codes, case.database_codes, case.distance, k)
    expected = naive_search(case, k)
    assert distances.tolist() == expected[0].tolist()
    assert items.tolist() == expected[1].tolist()


@interpreted
@settings(max_examples=15, deadline=None, derandomize=True)
@given(cases(st.integers(1, 96), largest=40))
def test_tiles_count_what_the_naive_version_counts(case):
    assert_counts_equal_naive(TritonEngine(form="tiled"), case)


@interpreted
@settings(max_examples=15, deadline=None, derandomize=True)
@given(cases(st.integers(1, 140), kinds=("hamming",), largest=40))
def test_products_count_what_the_naive_version_counts(case):
    assert_counts_equal_naive(TritonEngine(form="tensor"), case)


@interpreted
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    st.builds(
        make_case,
        seed=st.integers(0, 2**32 - 1),
        queries=st.integers(0, 2),
        items=st.integers(0, 150),
        kind=st.just("hamming"),
        relevance=st.sampled_from(["label", "sparse label", "neighbours"]),
        bits=st.integers(1, 20),
        spread=st.sampled_from([0.0, 0.05, 0.5]),
        classes=st.integers(1, 2),
    )
)
def test_planes_count_what_the_naive_version_counts(case):
    assert_counts_equal_naive(TritonEngine(form="planes"), case)


@interpreted
@pytest.mark.parametrize("bits", [33, 64])
def test_planes_of_several_blocks_and_parts(bits, monkeypatch):
    monkeypatch.setattr(bit_planes, "LANES", 2)
    monkeypatch.setattr(bit_planes, "STEPS", 1)
    assert_counts_equal_naive(
        TritonEngine(form="planes"), make_case(0, 1, 150, "hamming", "label", bits=bits, classes=2)
    )


@interpreted
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    case=st.builds(
        make_case,
        seed=st.integers(0, 2**32 - 1),
        queries=st.integers(1, 5),
        items=st.integers(1, 200),
        kind=st.sampled_from(["hamming", "manhattan", "asymmetric"]),
        relevance=st.just("label"),
        bits=st.sampled_from([5, 32, 40]),
        spread=st.sampled_from([0.0, 0.1, 0.5]),
    ),
    share=st.floats(0, 1),
    lists=st.sampled_from(LISTS),
    slack=st.sampled_from([1, 4]),
)
def test_every_way_of_listing_finds_the_nearest(case, share, lists, slack):
    """A small sample, so that there are several items for each of it, and without slack some queries overflow."""
    k = max(1, int(share * len(case.database_bits)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_lists, "MIN_SAMPLE", 20)
        patch.setattr(gpu_lists, "SLACK", slack)
        patch.setattr(triton_pairs, "TILE", 64)
        assert_lists_equal_naive(TritonEngine(lists=lists), case, k)


@interpreted
@pytest.mark.parametrize("lists", ["count", "sample"])
def test_lists_from_planes(lists, monkeypatch):
    monkeypatch.setattr(bit_planes, "LANES", 2)
    monkeypatch.setattr(gpu_lists, "MIN_SAMPLE", 64)
    for bits, spread, k in ((3, 0.0, 1), (65, 0.3, 5)):
        case = make_case(bits, 1, 150, "hamming", "label", bits=bits, spread=spread)
        assert_lists_equal_naive(TritonEngine(form="planes", lists=lists), case, k)


@interpreted
def test_planes_search_only_valid_items():
    case = make_case(1, 1, 90, "hamming", "label", bits=7)
    valid = torch.arange(90) % 3 == 1
    blocks = BlockedCodes.from_codes(case.database_codes, 7, valid)
    queries = PlaneQueries.from_codes(case.query_codes, blocks)
    keys = gpu_lists.find_nearest(queries, 30, 2**20, sampled=False)
    expected = TorchEngine().search(case.query_codes, case.database_codes[valid], Hamming(7), 30)
    assert torch.equal(keys // blocks.places, expected[0])
    assert torch.equal(keys % blocks.places, torch.nonzero(valid)[:, 0][expected[1]])


@compiled
def test_blocks_hold_one_bit_of_32_items_in_a_word():
    bits = torch.rand(2100, 40, generator=torch.Generator().manual_seed(0)) < 0.5
    blocks = BlockedCodes.from_codes(pack(bits), 40, block_bytes=1)
    assert blocks.planes.shape == (3, 64, 32)
    place = torch.arange(2100)
    words = blocks.planes[place // 1024, :, place // 32 % 32]
    assert torch.equal(((words >> (place % 32)[:, None]) & 1).bool()[:, :40], bits)
    held = (blocks.valid[place // 1024, place // 32 % 32] >> (place % 32)) & 1
    assert held.all()
    assert sum(int(word).bit_count() for word in (blocks.valid.flatten().to(torch.int64) & 0xFFFFFFFF).tolist()) == 2100


@compiled
def test_the_form_is_chosen_by_code_length_and_table_size():
    def chosen(bits, queries, items, labels=10, hamming=True, tables=2, forced=None):
        bins = max(16, 1 << bits.bit_length())
        possible = list_forms(hamming=hamming, bits=bits, bins=bins, tables=tables, shared_bins=2048)
        return choose_form(possible, bits=bits, queries=queries, items=items, labels=labels, forced=forced)

    assert chosen(64, 10_000, 1_000_000) == "planes"
    assert chosen(64, 10_000, 1_000_000, labels=0) == "planes"
    assert chosen(64, 10_000, 1_000_000, labels=None) == "tiled"
    assert chosen(64, 10_000, 1_000_000, labels=100_000) == "tiled"
    assert chosen(64, 1000, 59_000) == "tiled"
    assert chosen(64, 1, 10**9) == "scalar"
    assert chosen(128, 10_000, 1_000_000) == "tiled"
    assert chosen(256, 10_000, 1_000_000) == "tensor"
    assert chosen(256, 10_000, 1_000_000, hamming=False) == "tiled"
    assert chosen(2048, 10_000, 1_000_000) == "scalar"
    for form in FORMS:
        assert chosen(64, 3, 50, forced=form) == form
    with pytest.raises(InvalidInputError, match="form='planes' cannot count this ranking; choose among scalar, tiled"):
        chosen(128, 3, 50, forced="planes")
    with pytest.raises(InvalidInputError, match="form='tensor'"):
        chosen(64, 3, 50, hamming=False, forced="tensor")


@compiled
def test_the_way_of_lists_is_chosen_by_table_size():
    assert choose_lists(bins=128, queries=1000, items=59_000, shared_bins=2048) == "fused"
    assert choose_lists(bins=128, queries=1, items=59_000, shared_bins=2048) == "sample"
    assert choose_lists(bins=4096, queries=1000, items=59_000, shared_bins=2048) == "sample"
    assert choose_planes_lists(hamming=True, queries=10_000, items=1_000_000)
    assert not choose_planes_lists(hamming=True, queries=1, items=1_000_000)
    assert (sample_stride(100, 10**6), sample_stride(1, 10**9), sample_stride(10**5, 10**9)) == (20, 32, 1)
    assert sample_stride(10, 20_000) == 1


@compiled
def test_unknown_forms_are_refused():
    with pytest.raises(InvalidInputError, match="form"):
        TritonEngine(form="vector")
    with pytest.raises(InvalidInputError, match="lists"):
        TritonEngine(lists="sorted")


TABLES = {"query_labels": "*i64", "labels": "*i64", "total": "*i32", "relevant": "*i32", "n_queries": "i32"}
SIZES = {"label_width": "i32", "tiles": "i32"}


@compiled
@pytest.mark.parametrize("relevance", range(3))
def test_tiles_and_products_compile_for_a_gpu_without_one(relevance):
    codes = {"queries": "*i32", "weights": "*i32", "database": "*i32"}
    signature = {**codes, **TABLES, "n_items": "i32", "width": "i32", **SIZES}
    constants = {"RELEVANCE": relevance, "BINS": 128, "TILE": 128, "ROWS": 16, "CELLS": 4096}
    assert "popc" in compile_ptx(triton_tiles.tiled_kernel, signature, {"DISTANCE": 0, **constants})
    codes = {"queries": "*i8", "database": "*i8"}
    signature = {**codes, **TABLES, "n_items": "i32", "width": "i32", "bits": "i32", **SIZES}
    constants = {"RELEVANCE": relevance, "BINS": 128, "TILE": 256, "ROWS": 16, "CELLS": 4096, "DEPTH": 64}
    assert "mma.sync" in compile_ptx(triton_tiles.tensor_kernel, signature, constants, warps=8)


@compiled
def test_lists_compile_for_a_gpu_without_one():
    signature = {"queries": "*i32", "weights": "*i32", "database": "*i32", "keys": "*i64"}
    signature |= {"n_items": "i32", "width": "i32", "k": "i32", "tiles": "i32"}
    constants = {"DISTANCE": 0, "BINS": 128, "TILE": 1024}
    assert "popc" in compile_ptx(triton_kernels.nearest_kernel, signature, constants)


@compiled
@pytest.mark.ci
def test_planes_compile_for_a_gpu_without_one():
    """Full adders become two logical instructions of three operands each."""
    codes = {"planes": "*i32", "valid": "*i32", "flips": "*i32"}
    labels = {"query_labels": "*i64", "part_labels": "*i64", "parts": "*i32"}
    sizes = {"PLANES": 6, "CHUNK": 32, "HELD": True, "LANES": 32}
    signature = {**codes, **labels, "tables": "*i32", "chunks": "i32"}
    constants = {"BITS": 32, "LABELLED": True, **sizes}
    assert "popc" in compile_ptx(triton_planes.planes_histogram_kernel, signature, constants, warps=1)
    signature = {**codes, "limits": "*i32", "filled": "*i32", "keys": "*i64", "n_blocks": "i32", "steps": "i32"}
    signature |= {"chunks": "i32", "n_items": "i64", "capacity": "i32"}
    for stored in (False, True):
        constants = {"STORED": stored, **sizes, "PLANES": 8, "HELD": False}
        ptx = compile_ptx(triton_planes.planes_within_kernel, signature, constants, warps=1)
        assert ("st.global" in ptx) == stored


@pytest.mark.gpu
@compiled
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("relevance", ["label", "labels", "neighbours"])
@pytest.mark.parametrize("bits", [17, 64, 100, 256])
@pytest.mark.parametrize("form", FORMS)
def test_forms_on_a_gpu(form, bits, relevance):
    if form == "planes" and (bits > 64 or relevance == "labels"):
        pytest.skip("planes count up to 64 bits, and no items of several labels")
    case = make_case(0, 40, 9001, "hamming", relevance, bits=bits)
    fields = {
        name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in vars(case.relevance).items()
    }
    codes = case.query_codes.cuda(), case.database_codes.cuda(), case.distance
    counts = TritonEngine(form=form).rank(*codes, type(case.relevance)(**fields))
    total, relevant = count_by_torch(case)
    assert torch.equal(counts.total.cpu(), total)
    assert torch.equal(counts.relevant.cpu(), relevant)


def count_by_torch(case):
    counts = TorchEngine().rank(case.query_codes, case.database_codes, case.distance, case.relevance)
    return counts.total, counts.relevant


@pytest.mark.gpu
@compiled
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bits", [17, 64, 128, 256])
@pytest.mark.parametrize(
    ("form", "lists"), [(None, way) for way in LISTS] + [("planes", "count"), ("planes", "sample")]
)
def test_lists_on_a_gpu(form, lists, bits):
    case = make_case(0, 70, 100_001, "hamming", "label", bits=bits)
    expected = TorchEngine().search(case.query_codes, case.database_codes, case.distance, 100)
    codes = case.query_codes.cuda(), case.database_codes.cuda(), case.distance
    found = TritonEngine(form=form, lists=lists).search(*codes, 100)
    assert all(torch.equal(ours.cpu(), theirs) for ours, theirs in zip(found, expected, strict=True))


@interpreted
def test_every_method_of_forced_forms():
    assert_equals_naive(TritonEngine(form="tiled", lists="sample"), make_case(2, 4, 60, "hamming", "labels", bits=30))
