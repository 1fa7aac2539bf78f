"""FastHash: terms of pairs, exact block cuts, a search that never raises the loss, boosted trees, soft gradients."""

import itertools

import numpy as np
import pytest
import torch

from deephash import Hasher
from deephash.affinity.label import Label
from deephash.functional.block_cuts import minimise_submodular, similar_blocks
from deephash.functional.boosted_trees import boost
from deephash.metrics.average_precision import average_precision
from deephash.projections.fasthash import FastHash, infer_bit, pair_terms, quantile_edges
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.relevance import SharedLabel
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


LABELS = torch.arange(200) % 4
CENTRES = 2 * torch.randn(4, 8, generator=generator(1))
FEATURES = CENTRES[LABELS] + torch.randn(200, 8, generator=generator(2))
NEIGHBOURS = LABELS[:, None] == LABELS


def affinity(labels=LABELS):
    return Label().supervise(FEATURES, labels)


def pair_loss(distance, similar, bits):
    return distance**2 if similar else (bits - distance) ** 2


@pytest.mark.parametrize("bit", [1, 2, 7])
def test_terms_are_the_difference_that_agreeing_makes_to_the_loss(bit):
    for distance, similar in itertools.product(range(bit), (True, False)):
        expected = pair_loss(distance, similar, bit) - pair_loss(distance + 1, similar, bit)
        found = pair_terms(torch.tensor([float(distance)]), torch.tensor([similar]), bit)
        assert float(found) == expected
        assert bool(found < 0) == similar


@pytest.mark.parametrize("seed", range(12))
def test_cut_finds_the_minimum_of_all_codes(seed):
    random = np.random.default_rng(seed)
    pairwise = np.tril(random.integers(-4, 1, (8, 8)), -1)
    pairwise = pairwise + pairwise.T
    unary = random.integers(-12, 13, 8)
    every = np.array(list(itertools.product((-1, 1), repeat=8)))
    energies = 2 * every @ unary + np.einsum("ci,ij,cj->c", every, pairwise, every)
    z = minimise_submodular(unary, pairwise)
    assert 2 * z @ unary + z @ pairwise @ z == energies.min()


def test_blocks_are_of_neighbours_and_hold_every_item_once():
    overlapping = torch.rand(200, 5, generator=generator()) < 0.4
    overlapping[:, 0] |= ~overlapping.any(1)
    neighbours = affinity(overlapping).among(torch.arange(200))
    blocks = similar_blocks(neighbours, 20, generator())
    assert torch.cat(blocks).sort().values.tolist() == list(range(200))
    assert max(len(rows) for rows in blocks) > 1
    for rows in blocks:
        assert len(rows) <= 20
        assert bool(neighbours[rows][:, rows].all())


def test_search_never_raises_the_loss_and_lowers_it():
    codes = torch.randint(2, (5, 200), generator=generator(3)).float() * 2 - 1
    z = torch.randint(2, (200,), generator=generator(4)).float() * 2 - 1
    terms = pair_terms((5 - codes.T @ codes) / 2, NEIGHBOURS, 6).double()
    energies = [float(z.double() @ terms @ z.double())]
    blocks = similar_blocks(NEIGHBOURS, 30, generator())
    for seed in range(3):
        z = infer_bit(z, codes, NEIGHBOURS, blocks, generator(seed))
        energies.append(float(z.double() @ terms @ z.double()))
    assert energies[1] < energies[0]
    assert all(after <= before for before, after in itertools.pairwise(energies[1:]))


def test_first_bit_splits_the_classes_evenly():
    start = torch.randint(2, (200,), generator=generator(5)).float() * 2 - 1
    blocks = similar_blocks(NEIGHBOURS, 100, generator())
    z = infer_bit(start, torch.empty(0, 200), NEIGHBOURS, blocks, generator())
    assert sorted(z[c == LABELS].unique().item() for c in range(4)) == [-1, -1, 1, 1]


def plain_stump(levels, classes):
    """The cut of least exponential loss, by trying each."""
    n = len(classes)
    best = None
    for feature, cut in itertools.product(range(len(levels)), range(levels.max())):
        left = levels[feature] <= cut
        loss = sum(
            np.sqrt(((classes == 1) & side).sum() * ((classes == -1) & side).sum()) / n for side in (left, ~left)
        )
        if best is None or loss < best[0] - 1e-9:
            best = (loss, feature, cut)
    return best[1:]


def test_first_stump_is_the_best_of_all_cuts():
    levels = np.random.default_rng(0).integers(0, 16, (5, 300)).astype(np.uint8)
    classes = np.where(levels[3] + np.random.default_rng(1).normal(0, 4, 300) > 8, 1, -1).astype(np.float32)
    features, cuts, leaves, margins = boost(levels, classes, np.arange(5)[None], 1, 1.0, 16)
    assert (features[0, 0], cuts[0, 0]) == plain_stump(levels, classes)
    left = levels[features[0, 0]] <= cuts[0, 0]
    ones, others = ((classes[left] == sign).mean() * left.mean() + 1 / 300 for sign in (1, -1))
    assert leaves[0, 0] == pytest.approx(np.log(ones / others) / 2, rel=1e-4)
    assert np.allclose(margins, np.where(left, leaves[0, 0], leaves[0, 1]))


def test_more_trees_fit_what_no_single_cut_can():
    levels = np.random.default_rng(0).integers(0, 16, (4, 400)).astype(np.uint8)
    classes = np.where(levels[:3].astype(int).sum(0) > 22, 1, -1).astype(np.float32)
    errors = []
    for trees in (1, 60):
        margins = boost(levels, classes, np.tile(np.arange(4), (trees, 1)), 4, 0.99, 16)[3]
        errors.append((np.sign(margins) != classes).mean())
    assert errors[1] < 0.02 <= errors[0]


def test_forward_walks_the_trees_that_were_learnt():
    method = FastHash(8, 3, trees=5, depth=3).fit(FEATURES, affinity=affinity())
    expected = np.zeros((200, 3))
    for (row, x), bit, tree in itertools.product(enumerate(FEATURES.tolist()), range(3), range(5)):
        at = 0
        while at < 7:
            at = 2 * at + 1 + (x[method.nodes[bit, tree, at]] >= method.thresholds[bit, tree, at].item())
        expected[row, bit] += method.leaves[bit, tree, at - 7].item()
    assert np.allclose(method(FEATURES).detach(), expected, atol=1e-5)
    with torch.no_grad():
        assert np.allclose(method(FEATURES), expected, atol=1e-5)


def test_edges_cut_a_feature_into_equal_parts():
    values = torch.randperm(64, generator=generator()).float()[:, None]
    edges = quantile_edges(values, 8)
    assert edges.tolist() == [[8, 16, 24, 32, 40, 48, 56]]


def test_neighbours_get_nearer_codes():
    method = FastHash(8, 12, trees=20).fit(FEATURES, affinity=affinity())
    fresh = CENTRES[LABELS] + torch.randn(200, 8, generator=generator(9))
    bits = (method(fresh) >= 0).float() * 2 - 1
    distances = (12 - bits @ bits.T) / 2
    assert distances[NEIGHBOURS].mean() < 0.5 * distances[~NEIGHBOURS].mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trees": 0}, "trees=0; expected a whole number"),
        ({"depth": 0}, "depth=0; expected a whole number"),
        ({"levels": 257}, "levels=257; expected 2 to 256"),
        ({"tried": 0}, "tried=0; expected a whole number"),
        ({"kept_weight": 1.5}, "kept_weight=1.5; expected a number from 0 to 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        FastHash(8, 4, **arguments)


def test_too_many_items_are_refused():
    n = 32_769
    method = FastHash(1, 4)
    labels = torch.zeros(n, dtype=torch.int64)
    with pytest.raises(InvalidInputError, match="32769 training items; FastHash stores the neighbours of at most"):
        method.fit(torch.zeros(n, 1), affinity=Label().supervise(torch.zeros(n, 1), labels))


@pytest.mark.data
def test_beats_itq_on_gist(cifar10_gist):
    """With 2,000 labelled items, and items that neither method has seen searched."""
    features, labels, _ = cifar10_gist
    rows = torch.randperm(len(features), generator=generator())
    query, database, train = rows[:500], rows[500:4500], rows[4500:6500]
    relevance = SharedLabel(labels[query], labels[database])

    def score(projection, **given):
        hasher = Hasher(projection, SBQ(16)).fit(features[train], generator=generator(), **given)
        codes = hasher.encode(features[query]), hasher.encode(features[database])
        return float(average_precision(AutoEngine().rank(*codes, hasher.distance, relevance)).mean())

    known = Label().supervise(features[train], labels[train])
    fasthash = score(FastHash(512, 16, trees=100), affinity=known)
    assert fasthash > 1.2 * score(ITQ(512, 16))
    assert fasthash < 0.4
