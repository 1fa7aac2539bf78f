"""deephash.index: kinds by name, lengths by default, and the faster exact one by measured cost."""

import numpy as np
import pytest
import torch

import deephash
from deephash.indexes import build_index
from deephash.validation import InvalidInputError


def test_kinds_are_the_files_and_each_says_its_own_name(clustered_codes):
    assert {"flat", "mih", "faiss_flat"} <= set(build_index.index_kinds())
    assert [build_index.index_class(kind).__module__.rpartition(".")[2] for kind in build_index.index_kinds()] == (
        build_index.index_kinds()
    )


def test_numpy_and_torch_give_the_same_and_bits_default_to_the_bytes(clustered_codes):
    codes = clustered_codes(50, 64, 0)
    from_torch, from_numpy = deephash.index(codes), deephash.index(codes.numpy())
    assert (from_torch.kind, from_torch.bits) == ("mih", 64)
    expected = from_torch.search(codes[:4], 3)
    found = from_numpy.search(codes[:4].numpy(), 3)
    assert torch.equal(expected[1], found[1])


def test_codes_that_cannot_be_written_to_are_taken(clustered_codes):
    codes = clustered_codes(50, 64, 0).numpy()
    codes.flags.writeable = False
    assert len(deephash.index(codes, "flat")) == 50


def test_refusals(clustered_codes):
    codes = clustered_codes(50, 64, 0)
    with pytest.raises(InvalidInputError, match=r"kind='tree'; expected one of: auto, .*mih"):
        deephash.index(codes, "tree")
    with pytest.raises(InvalidInputError, match="kind=mih has no setting trees; it has patience, tables, threads"):
        deephash.index(codes, "mih", trees=3)
    with pytest.raises(InvalidInputError, match=r"codes of 63 bits|ones beyond bit 63"):
        deephash.index(torch.full((3, 8), 255, dtype=torch.uint8), bits=63)
    with pytest.raises(InvalidInputError, match="dtype int64"):
        deephash.index(np.zeros((3, 8), np.int64))
    with pytest.raises(InvalidInputError, match="codes"):
        deephash.index([["a"]])


def test_auto_scans_few_codes_and_takes_the_faster_of_many(clustered_codes, monkeypatch):
    codes = clustered_codes(3000, 64, 0)
    assert deephash.index(codes, "auto").kind == "flat"
    monkeypatch.setattr(build_index, "MIN_CODES_FOR_TABLES", 1000)
    for faster in ("flat", "mih"):
        seconds = {faster: 1.0}
        monkeypatch.setattr(build_index, "measure_seconds", lambda tried, _, s=seconds: s.get(tried.kind, 2.0))
        assert deephash.index(codes, "auto").kind == faster


def test_measured_cost_tells_a_scan_of_many_from_one_of_few(clustered_codes):
    many, few = (deephash.index(clustered_codes(rows, 64, 0), "flat") for rows in (400_000, 1000))
    queries = clustered_codes(16, 64, 1)
    assert build_index.measure_seconds(many, queries) > build_index.measure_seconds(few, queries)
