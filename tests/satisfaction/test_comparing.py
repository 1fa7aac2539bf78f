"""Interleaving, rank-biased overlap, and lists with ties in random order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.codes import pack
from deephash.ranking.distance import Hamming
from deephash.ranking.torch_engine import TorchEngine
from deephash.satisfaction.rank_biased_overlap import rank_biased_overlap
from deephash.satisfaction.ranked_lists import rank_lists
from deephash.satisfaction.team_draft import credit_clicks, team_draft
from deephash.validation import InvalidInputError


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(0, 6))
def test_team_draft_follows_its_rules(seed, depth, spare):
    """Each item once; each team's next is its best unused; after an even number of ranks teams are even."""
    rng = np.random.default_rng(seed)
    lists = [np.stack([rng.permutation(depth + spare)[:depth] for _ in range(5)]) for _ in range(2)]
    first, second = (torch.from_numpy(x) for x in lists)
    ids, teams = team_draft(first, second, torch.Generator().manual_seed(seed))
    for row in range(5):
        shown = []
        for item, team in zip(ids[row].tolist(), teams[row].tolist(), strict=True):
            assert item == next(x for x in lists[team][row].tolist() if x not in shown)
            shown.append(item)
            picks = teams[row, : len(shown)].tolist()
            assert abs(picks.count(0) - picks.count(1)) <= 1
        assert len(set(shown)) == depth


def test_credit_prefers_the_better_ranking():
    """Good items first against good items last: a user who clicks them credits the first in most sessions."""
    good = torch.arange(5)
    first = torch.arange(10).expand(4000, -1)
    second = torch.arange(9, -1, -1).expand(4000, -1)
    ids, teams = team_draft(first, second, torch.Generator().manual_seed(0))
    clicks = torch.isin(ids, good) & (torch.arange(10) < 4)
    outcome = credit_clicks(clicks, teams)
    assert (outcome == 1).all()
    same, teams = team_draft(first, first, torch.Generator().manual_seed(0))
    outcome = credit_clicks(same == 0, teams)
    assert abs(float(outcome.double().mean())) < 0.05


def test_lists_of_other_shapes_are_refused():
    with pytest.raises(InvalidInputError, match=r"expected \(n, K\) twice"):
        team_draft(torch.zeros(2, 3), torch.zeros(2, 4), torch.Generator())


def test_rank_biased_overlap():
    """Equal orders give 1; a short example by the definition; the top weighs more than the end."""
    letters = list("abcde")
    assert rank_biased_overlap(letters, letters) == pytest.approx(1)
    p, agreement = 0.8, [0, 1, 2 / 3, 1, 1]
    expected = (1 - p) * sum(p**d * a for d, a in enumerate(agreement)) + p**5 * agreement[-1]
    assert rank_biased_overlap(letters, list("badce"), p) == pytest.approx(0.2 * 0 + expected, abs=1e-12)
    assert rank_biased_overlap(letters, list("bacde")) < rank_biased_overlap(letters, list("abced"))
    with pytest.raises(InvalidInputError, match="do not contain the same items"):
        rank_biased_overlap(letters, list("abcdf"))


def test_ties_come_in_random_order_and_distances_rise():
    generator = torch.Generator().manual_seed(0)
    codes = pack(torch.rand(400, 4, generator=generator) < 0.5)
    queries = codes[:3]
    draws = [
        rank_lists(TorchEngine(), queries, codes, Hamming(4), 20, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    found = np.unpackbits(codes[draws[0]].numpy() ^ queries[:, None].numpy(), axis=2).sum(2)
    assert (np.diff(found, axis=1) >= 0).all()
    assert (found == TorchEngine().search(queries, codes, Hamming(4), 20)[0].numpy()).all()
    # Over draws, each of the items that share the query's code stands first as often as any other.
    firsts = torch.stack(
        [
            rank_lists(TorchEngine(), queries[:1], codes, Hamming(4), 1, torch.Generator().manual_seed(seed))[0, 0]
            for seed in range(600)
        ]
    )
    same = (codes == queries[0]).all(1).nonzero().flatten()
    counts = torch.bincount(firsts, minlength=400)[same].double()
    assert counts.sum() == 600
    assert float(((counts - 600 / len(same)) ** 2 / (600 / len(same))).sum()) < 2.5 * len(same)
