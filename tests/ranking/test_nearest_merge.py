"""The merged neighbours of shards equal those of a scan of all items."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deephash.ranking.distance import Hamming
from deephash.ranking.nearest_merge import merge_nearest
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 49), unique=True, max_size=5), st.integers(1, 50))
def test_merging_any_cut_gives_the_scan_of_all(seed, cuts, k):
    # Four bits leave many ties, so that the order by id is put to the test.
    draw = np.random.default_rng(seed)
    queries, database = (torch.from_numpy(draw.integers(0, 16, (n, 1), np.uint8)) for n in (5, 50))
    engine, edges = TorchEngine(), [0, *sorted(cuts), 50]
    found = [
        engine.search(queries, database[low:high], Hamming(4), min(k, high - low))
        for low, high in itertools.pairwise(edges)
    ]
    ids = [ids + low for (_, ids), low in zip(found, edges, strict=False)]
    order = draw.permutation(len(found))
    merged = merge_nearest([found[i][0] for i in order], [ids[i] for i in order], k)
    whole = engine.search(queries, database, Hamming(4), k)
    assert torch.equal(merged[0], whole[0])
    assert torch.equal(merged[1], whole[1])


def test_what_was_not_found_comes_last():
    near = [torch.tensor([[1, 9]]), torch.tensor([[1, 9]])]
    ids = [torch.tensor([[7, -1]]), torch.tensor([[3, 8]])]
    assert merge_nearest(near, ids, 4)[1].tolist() == [[3, 7, 8, -1]]
    with pytest.raises(InvalidInputError, match="k=5 exceeds the 4 items"):
        merge_nearest(near, ids, 5)
    with pytest.raises(InvalidInputError, match="there are no answers to merge"):
        merge_nearest([], [], 1)
