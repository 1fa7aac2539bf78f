"""Supervision by pairs: one interface over labels, multi-labels, ε-balls and listed pairs."""

import numpy as np
import pytest
import torch

from deephash.affinity.epsilon_ball import EpsilonBall
from deephash.affinity.label import Label
from deephash.affinity.pairs import Pairs
from deephash.affinity.supervision import AmongItems, ListedPairs
from deephash.projections.pcah import PCAH
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError

GENERATOR = torch.Generator().manual_seed(0)
FEATURES = torch.randn(60, 5, generator=GENERATOR)
LABELS = torch.randint(4, (60,), generator=GENERATOR)
MULTI_LABELS = torch.rand(60, 6, generator=GENERATOR) < 0.3
PAIRS = torch.tensor([[0, 3], [3, 5], [5, 0], [7, 3], [0, 3]])


def assert_is_the_matrix(affinity, expected):
    """Rows, in any order and number, and subsets of items agree with a whole matrix."""
    n = len(expected)
    assert len(affinity) == n
    assert torch.equal(affinity.among(torch.arange(n)), expected)
    rows = torch.tensor([7, 3, 3, 0])
    assert torch.equal(affinity.among(rows), expected[rows])
    assert affinity.among(rows[:0]).shape == (0, n)
    some = torch.tensor([5, 0, 7, 2])
    part = affinity.subset(some)
    assert torch.equal(part.among(torch.arange(4)), expected[some][:, some])


def test_labels():
    expected = LABELS[:, None] == LABELS
    assert_is_the_matrix(Label().fit(FEATURES, LABELS).supervise(FEATURES, LABELS), expected)


def test_multi_labels():
    expected = (MULTI_LABELS[:, None] & MULTI_LABELS).any(2)
    assert_is_the_matrix(Label().fit(FEATURES, MULTI_LABELS).supervise(FEATURES, MULTI_LABELS), expected)


def test_epsilon_ball():
    ball = EpsilonBall(neighbours=5).fit(FEATURES, None)
    distances = (FEATURES.double()[:, None] - FEATURES.double()).square().sum(2).sqrt()
    expected = distances <= ball.radius
    assert 60 < int(expected.sum()) < 60 * 60 / 2
    assert_is_the_matrix(ball.supervise(FEATURES, None), expected)


@pytest.mark.parametrize(("train", "neighbours", "error"), [(600, 50, 0.02), (150, 50, 0.05), (100, 5, 0.08)])
def test_radius_of_a_large_database_is_estimated_from_a_small_training_part(train, neighbours, error):
    """12,000 items in eight dimensions, mean of four draws; two of the balls are smaller than a first neighbour."""
    estimated, own = [], []
    for seed in range(4):
        items = torch.randn(12_000, 8, generator=torch.Generator().manual_seed(seed))
        truth = EpsilonBall(neighbours, sample=300, among="database").fit(items[train:], None)
        supervised = truth.supervise(items[:train], None)
        estimated.append(supervised.affinity.radius / truth.radius)
        own.append(EpsilonBall(neighbours).fit(items[:train], None).radius / truth.radius)
    assert np.mean(estimated) == pytest.approx(1, abs=error)
    assert np.mean(own) > 1.4


def test_wide_pairs_are_those_of_the_training_part_s_own_radius():
    train = FEATURES[:40]
    supervised = EpsilonBall(5, among="database").fit(FEATURES.repeat(10, 1), None).supervise(train, None)
    wide, rows = supervised.wide(), torch.arange(40)
    assert_is_the_matrix(wide, EpsilonBall(5).fit(train, None).supervise(train, None).among(rows))
    assert int(wide.among(rows).sum()) > int(supervised.among(rows).sum()) >= 40
    some = torch.tensor([5, 0, 7, 2])
    assert torch.equal(supervised.subset(some).wide().among(torch.arange(4)), wide.among(some)[:, some])


def test_radius_for_training_sees_nothing_of_the_database_but_its_size():
    train = FEATURES[:40]
    radii = [
        EpsilonBall(5, among="database").fit(database, None).supervise(train, None).affinity.radius
        for database in (FEATURES.repeat(10, 1), 100 * FEATURES.repeat(10, 1) + 7, FEATURES)
    ]
    assert radii[0] == radii[1] < radii[2]


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_radius_for_training_at_a_whole_rank_is_that_neighbour_s_distance(rank):
    """(49.5 n / N) + 1/2 is the rank: N = 49.5 n / (rank - 1/2)."""
    train = FEATURES.repeat(3, 1) + 0.1 * torch.randn(180, 5, generator=torch.Generator().manual_seed(2))
    items = {1: 17_820, 2: 5_940, 5: 1_980}[rank]
    truth = EpsilonBall(among="database").fit(torch.randn(items, 5, generator=GENERATOR), None)
    expected = EpsilonBall(rank).fit(train, None).radius
    assert truth.supervise(train, None).affinity.radius == pytest.approx(expected, rel=1e-12)


def test_a_training_part_as_large_as_the_database_keeps_its_own_radius():
    truth = EpsilonBall(5, among="database").fit(FEATURES[:30], None)
    supervised = truth.supervise(FEATURES, None)
    assert supervised.affinity.radius == EpsilonBall(5).fit(FEATURES, None).radius
    assert supervised.wide() is supervised
    labelled = Label().supervise(FEATURES, LABELS)
    assert labelled.wide() is labelled


def test_twins_leave_no_distance_to_scale():
    twins = FEATURES[:30].repeat(2, 1)
    truth = EpsilonBall(1, among="database").fit(torch.randn(500, 5, generator=GENERATOR), None)
    assert truth.supervise(twins, None).affinity.radius == 0


def test_listed_pairs_count_both_ways():
    expected = torch.eye(60, dtype=torch.bool)
    for i, j in PAIRS.tolist():
        expected[i, j] = expected[j, i] = True
    assert_is_the_matrix(ListedPairs(PAIRS, 60), expected)


def test_pairs_of_a_file_are_renumbered_to_the_training_part(tmp_path):
    np.save(tmp_path / "pairs.npy", PAIRS.numpy().astype(np.int32))
    definition = Pairs(str(tmp_path / "pairs.npy")).fit(FEATURES, None)
    positions = torch.tensor([3, 0, 11, 7])  # item 5 is no training item
    among = definition.supervise(FEATURES[:4], None, positions).among(torch.arange(4))
    neighbours = {(i, j) for i, j in among.nonzero().tolist() if i < j}
    assert neighbours == {(0, 1), (0, 3)}
    assert torch.equal(
        definition.supervise(FEATURES, None).among(torch.tensor([5]))[0].nonzero().flatten(), torch.tensor([0, 3, 5])
    )


def test_pairs_are_no_truth(tmp_path):
    np.save(tmp_path / "pairs.npy", PAIRS.numpy())
    with pytest.raises(InvalidInputError, match="not a truth for queries; use truth=label"):
        Pairs(str(tmp_path / "pairs.npy")).relevance(FEATURES, None, FEATURES, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((3, 3), np.int64), r"has shape \(3, 3\) and dtype int64; expected integers \(p, 2\)"),
        (np.zeros((3, 2)), r"has shape \(3, 2\) and dtype float64; expected integers \(p, 2\)"),
        (np.array([[0, -4]]), "names item -4; rows start at 0"),
    ],
)
def test_bad_files_of_pairs_are_refused(content, message, tmp_path):
    np.save(tmp_path / "pairs.npy", content)
    with pytest.raises(InvalidInputError, match=message):
        Pairs(str(tmp_path / "pairs.npy"))


def test_missing_files_of_pairs_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="does not exist; give a file"):
        Pairs(str(tmp_path / "none.npy"))
    with pytest.raises(InvalidInputError, match=r"supervision\.path is not set"):
        Pairs()


def test_bad_pairs_are_refused():
    with pytest.raises(InvalidInputError, match="pairs have rows from 0 to 9; expected rows from 0 to 5"):
        ListedPairs(torch.tensor([[0, 9]]), 6)
    with pytest.raises(
        InvalidInputError, match=r"pairs have shape \(2,\) and dtype torch.int64; expected int64 \(p, 2\)"
    ):
        ListedPairs(torch.tensor([0, 1]), 6)


def test_supervision_of_other_items_is_refused():
    affinity = AmongItems(Label(), FEATURES[:40], LABELS[:40])
    for part in (PCAH(5, 3), SBQ(5)):
        with pytest.raises(InvalidInputError, match="affinity has 40 items; expected the 60 training items"):
            part.fit(FEATURES, affinity=affinity)
