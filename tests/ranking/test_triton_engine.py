"""The Triton engine: interpreted on the CPU in a separate process, and compiled for a GPU on a machine without one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted import compile_ptx, compiled, interpreted, run_interpreted
from naive_ranking import KINDS, assert_equals_naive, cases, make_case

pytest.importorskip("triton")

from deephash.ranking import triton_engine, triton_kernels, triton_pairs
from deephash.ranking.torch_engine import TorchEngine
from deephash.ranking.triton_engine import TritonEngine
from deephash.validation import InvalidInputError

pytestmark = pytest.mark.skipif(not triton_kernels.COUNTS_UNDER_MASK, reason="Triton counts no histogram under a mask")


@pytest.mark.ci
@compiled
def test_interpreted():
    """Triton reads TRITON_INTERPRET when the kernels are defined, so those tests run in a process of their own."""
    assert "6 passed" in run_interpreted(__file__)


@interpreted
@settings(max_examples=25, deadline=None, derandomize=True)
@given(cases(st.integers(1, 96), largest=40))
def test_equals_naive(case):
    assert_equals_naive(TritonEngine(), case)


@interpreted
def test_several_tiles_and_programs(monkeypatch):
    """Database parts, tiles within a part, and a last tile that is not full."""
    monkeypatch.setattr(triton_pairs, "TILE", 16)
    monkeypatch.setattr(triton_pairs, "TILES", 2)
    for relevance in ("label", "labels", "neighbours"):
        assert_equals_naive(TritonEngine(), make_case(0, 3, 75, "hamming", relevance, bits=70))


@interpreted
def test_tables_in_global_memory(monkeypatch):
    monkeypatch.setattr(triton_pairs, "SHARED_BINS", 16)
    for relevance in ("label", "labels", "neighbours"):
        assert_equals_naive(TritonEngine(), make_case(0, 3, 40, "asymmetric", relevance, bits=20))


@interpreted
def test_long_codes():
    assert_equals_naive(TritonEngine(), make_case(0, 2, 20, "hamming", "label", bits=1021))


@interpreted
def test_search_in_small_blocks():
    """Blocks of one query, and of a part of those whose k-th neighbours tie with many."""
    case = make_case(0, 5, 60, "hamming", "label", bits=6)
    engine = TritonEngine(2**16)
    engine._lists.block_bytes = 32 * 40
    distances, items = engine.search(case.query_codes, case.database_codes, case.distance, 7)
    expected = TorchEngine().search(case.query_codes, case.database_codes, case.distance, 7)
    assert torch.equal(distances, expected[0])
    assert torch.equal(items, expected[1])


@interpreted
def test_search_of_distances_too_many_to_count(monkeypatch):
    monkeypatch.setattr(triton_engine, "LISTED_BINS", 8)
    assert_equals_naive(TritonEngine(), make_case(0, 3, 40, "hamming", "label", bits=20))


@compiled
@pytest.mark.parametrize(("relevance", "distance"), [(r, d) for r in range(3) for d in range(3)])
def test_compiles_for_a_gpu_without_one(relevance, distance):
    """Every variant becomes PTX, and the shift-and-add popcount becomes the GPU's own instruction."""
    item = "*i32" if distance == triton_kernels.HAMMING.value else "*u8"
    signature = {"queries": item, "weights": "*i32", "database": item, "query_labels": "*i64", "labels": "*i64"}
    signature |= {"total": "*i32", "relevant": "*i32", "n_items": "i32", "width": "i32"}
    signature |= {"label_width": "i32", "tiles": "i32"}
    constants = {"DISTANCE": distance, "RELEVANCE": relevance, "BINS": 128, "TILE": triton_pairs.TILE, "SHARED": True}
    signature |= dict.fromkeys(constants, "constexpr")
    ptx = compile_ptx(triton_kernels.histogram_kernel, signature, constants)
    assert ("popc" in ptx) == (item == "*i32")
    assert ".target sm_90" in ptx


@compiled
def test_collecting_compiles_for_a_gpu_without_one():
    signature = {"queries": "*i32", "weights": "*i32", "database": "*i32", "limits": "*i32", "filled": "*i32"}
    signature |= {"keys": "*i64", "n_items": "i32", "width": "i32", "capacity": "i32", "tiles": "i32"}
    constants = {"DISTANCE": 0, "TILE": triton_pairs.TILE}
    signature |= dict.fromkeys(constants, "constexpr")
    assert "atom" in compile_ptx(triton_kernels.collect_kernel, signature, constants)


@compiled
def test_refuses_the_cpu():
    case = make_case(0, 2, 5, "hamming", "label")
    with pytest.raises(InvalidInputError, match="TritonEngine ranks codes on a CUDA device, but these are on cpu"):
        TritonEngine().rank(case.query_codes, case.database_codes, case.distance, case.relevance)


@pytest.mark.gpu
@compiled
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("relevance", ["label", "labels", "neighbours"])
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu(kind, relevance):
    case = make_case(0, 40, 9001, kind, relevance, bits=64)
    distance, given_relevance = case.distance, case.relevance
    if kind == "asymmetric":
        distance = type(distance)(distance.bits, distance.weights.cuda())
    fields = {
        name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in vars(case.relevance).items()
    }
    codes = case.query_codes, case.database_codes, case.distance
    codes_on_gpu = case.query_codes.cuda(), case.database_codes.cuda(), distance
    on_gpu = TritonEngine().rank(*codes_on_gpu, type(given_relevance)(**fields))
    expected = TorchEngine().rank(*codes, case.relevance)
    assert torch.equal(on_gpu.total.cpu(), expected.total)
    assert torch.equal(on_gpu.relevant.cpu(), expected.relevant)
    for k in (1, 100, 9001):
        found, by_torch = TritonEngine().search(*codes_on_gpu, k), TorchEngine().search(*codes, k)
        assert all(torch.equal(ours.cpu(), theirs) for ours, theirs in zip(found, by_torch, strict=True))
