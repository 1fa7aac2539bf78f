"""The torch engine: equal to the naive rankings, in blocks of any size."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_ranking import KINDS, assert_equals_naive, assert_search_among_equals_naive, cases, make_case

from deephash.ranking import torch_engine
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases(st.integers(1, 1024)), st.sampled_from([2**16, 2**18, 2**28]))
def test_equals_naive(case, block_bytes):
    assert_equals_naive(TorchEngine(block_bytes), case)
    assert_search_among_equals_naive(TorchEngine(block_bytes), case)


@pytest.mark.parametrize("relevance", ["label", "labels", "neighbours"])
@pytest.mark.parametrize("kind", KINDS)
def test_many_blocks(monkeypatch, kind, relevance):
    """Blocks of 7 queries and a few items: sums, merges and ranks carry over from block to block."""
    monkeypatch.setattr(torch_engine, "QUERIES", 7)
    case = make_case(2, 17, 300, kind, relevance, bits=24, spread=0.1)
    engine = TorchEngine(2**16)
    blocks = list(engine.blocks(case.query_codes, case.database_codes, case.distance))
    assert len(blocks) > 3 * 3
    assert_equals_naive(engine, case)


@pytest.mark.parametrize("block_bytes", [0, 1000, 1e9, True])
def test_refuses_block_bytes(block_bytes):
    with pytest.raises(InvalidInputError, match=r"block_bytes=.*; expected a whole number of at least 65536"):
        TorchEngine(block_bytes)
