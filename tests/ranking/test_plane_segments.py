"""Segments of bit planes, which an index on a GPU consists of, by interpreted kernels."""

import numpy as np
import pytest
import torch
from interpreted import compiled, interpreted, run_interpreted

pytest.importorskip("triton")

import deephash
from deephash.indexes import gpu
from deephash.indexes.device_segments import PlaneSegment
from deephash.ranking import bit_planes


@compiled
@pytest.mark.ci
def test_interpreted():
    assert "1 passed" in run_interpreted(__file__)


def assert_equal(found, expected):
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@interpreted
def test_an_index_of_plane_segments_equals_a_scan(monkeypatch):
    monkeypatch.setattr(bit_planes, "LANES", 2)
    monkeypatch.setattr(gpu, "segment_class", lambda device: PlaneSegment)
    monkeypatch.setattr(gpu, "SPARE", 0.6)
    codes = np.random.default_rng(0).integers(0, 128, (150, 1), dtype=np.uint8)
    index = deephash.index(codes[:130], "gpu", bits=7, device=["cpu", "cpu"])
    index.add(codes[130:])  # Into the block of the last code.
    flat = deephash.index(codes, "flat", bits=7)
    assert [each.count for each in index._segments] == [65, 85]
    for k, where in ((3, None), (2, np.arange(150) % 7 == 0)):
        assert_equal(index.search(codes[:1], k, where=where), flat.search(codes[:1], k, where=where))
    for changed in (index, flat):
        changed.remove([0, 140])
    assert_equal(index.search(codes[:1], 3), flat.search(codes[:1], 3))
    for radius in (0, 3):
        found, expected = index.within(codes[:2], radius), flat.within(codes[:2], radius)
        assert_equal(vars(found).values(), vars(expected).values())
