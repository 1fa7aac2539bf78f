"""The three definitions of relevance: relevant pairs, errors, and the blocks of supervision."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from deephash.affinity import epsilon_ball
from deephash.affinity.base import Affinity, to_dense
from deephash.affinity.epsilon_ball import EpsilonBall
from deephash.affinity.label import Label
from deephash.affinity.nearest_neighbours import NearestNeighbours
from deephash.ranking.relevance import Neighbours, SharedLabel, SharedLabels
from deephash.validation import InvalidInputError, NotFittedError

CONF = Path(__file__).resolve().parents[2] / "conf" / "truth"


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distances(a, b):
    return np.sqrt(((a.numpy().astype(float)[:, None] - b.numpy().astype(float)[None]) ** 2).sum(-1))


@pytest.mark.parametrize(
    ("name", "kind"), [("label", Label), ("epsilon_ball", EpsilonBall), ("nearest_neighbours", NearestNeighbours)]
)
def test_configured_by_name(name, kind, read_config):
    assert type(instantiate(read_config(CONF / f"{name}.yaml"))) is kind


def test_single_labels():
    truth = Label().fit(draw(0, 3, 2), torch.tensor([0, 1, 1]))
    relevance = truth.relevance(draw(1, 2, 2), torch.tensor([1, 9]), draw(2, 4, 2), torch.tensor([0, 1, 1, 2]))
    assert isinstance(relevance, SharedLabel)
    # Class 9 is absent from the database: its query has no neighbour, and is no error.
    assert to_dense(relevance).tolist() == [[False, True, True, False], [False] * 4]


def test_multiple_labels():
    query = torch.tensor([[1, 0, 1], [0, 0, 0]]).bool()
    database = torch.tensor([[0, 1, 0], [0, 1, 1], [1, 0, 1]]).bool()
    relevance = Label().relevance(draw(1, 2, 2), query, draw(2, 3, 2), database)
    assert isinstance(relevance, SharedLabels)
    assert to_dense(relevance).tolist() == [[False, True, True], [False] * 3]


def test_label_refusals():
    single, indicator = torch.tensor([0, 1]), torch.eye(2, dtype=torch.bool)
    features = draw(0, 2, 3)
    with pytest.raises(InvalidInputError, match=r"the training items have none; .*truth=nearest_neighbours"):
        Label().fit(features, None)
    with pytest.raises(InvalidInputError, match="the query items have none"):
        Label().relevance(features, None, features, single)
    with pytest.raises(InvalidInputError, match="the database items have none"):
        Label().relevance(features, single, features, None)
    with pytest.raises(InvalidInputError, match="query labels have 2 rows; expected 1"):
        Label().relevance(features[:1], single, features, single)
    with pytest.raises(InvalidInputError, match="database labels are a multi-label indicator"):
        Label().relevance(features, single, features, indicator)
    with pytest.raises(InvalidInputError, match="database labels are class indices"):
        Label().relevance(features, indicator, features, single)


def test_radius_is_the_mean_distance_to_the_fiftieth_other_item():
    train = draw(0, 300, 6)
    apart = distances(train, train)
    np.fill_diagonal(apart, np.inf)
    expected = np.sort(apart, axis=1)[:, 49].mean()
    assert EpsilonBall(sample=300).fit(train, None).radius == pytest.approx(expected, rel=1e-12)
    assert EpsilonBall().fit(train, None).radius == pytest.approx(expected, rel=1e-12)
    fourth = np.sort(apart, axis=1)[:, 3].mean()
    assert EpsilonBall(neighbours=4).fit(train, None).radius == pytest.approx(fourth, rel=1e-12)


def test_radius_of_a_sample_is_seeded():
    train = draw(0, 300, 6)
    one, again, other = (EpsilonBall(sample=40, seed=s).fit(train, None).radius for s in (0, 0, 1))
    assert one == again != other
    full = EpsilonBall(sample=300).fit(train, None).radius
    assert abs(one / full - 1) < 0.1


def test_duplicates_count_as_neighbours_of_the_radius():
    train = draw(0, 30, 4).repeat(2, 1)  # every item has one twin, its first neighbour
    assert EpsilonBall(neighbours=1).fit(train, None).radius == 0


def test_ball_holds_what_is_within_the_radius():
    train, query, database = draw(0, 200, 5), draw(1, 30, 5), draw(2, 500, 5)
    database[17] = query[3]
    truth = EpsilonBall(neighbours=10).fit(train, None)
    relevance = truth.relevance(query, None, database, None)
    assert isinstance(relevance, Neighbours)
    apart = distances(query, database)
    assert np.abs(apart - truth.radius).min() > 1e-9  # no pair on the boundary: the answer is beyond doubt
    assert np.array_equal(to_dense(relevance).numpy(), apart <= truth.radius)
    assert bool(to_dense(relevance)[3, 17])
    far = truth.relevance(query + 1000, None, database, None)
    assert far.offsets.tolist() == [0] * 31


def test_ball_refusals(monkeypatch):
    for name in ("neighbours", "sample"):
        for value in (0, -1, 1.5, True, "50"):
            with pytest.raises(InvalidInputError, match=rf"truth\.{name}=.*whole number of at least 1"):
                EpsilonBall(**{name: value})
    with pytest.raises(NotFittedError, match="no radius yet; call fit"):
        EpsilonBall().relevance(draw(0, 2, 3), None, draw(1, 5, 3), None)
    with pytest.raises(InvalidInputError, match=r"more than 50 items, but it has 50; lower truth\.neighbours"):
        EpsilonBall().fit(draw(0, 50, 3), None)
    with pytest.raises(InvalidInputError, match="training features contain NaN"):
        EpsilonBall(neighbours=2).fit(torch.full((5, 3), torch.nan), None)
    truth = EpsilonBall(neighbours=40).fit(draw(0, 50, 3), None)
    with pytest.raises(InvalidInputError, match="database features have 4 dimensions; expected 3"):
        truth.relevance(draw(0, 2, 3), None, draw(1, 5, 4), None)
    monkeypatch.setattr(epsilon_ball, "MAXIMUM_IDS", 10)
    with pytest.raises(
        InvalidInputError, match=r"contains \d+% of the database .*more than 10 neighbours in total; lower truth"
    ):
        truth.relevance(draw(0, 20, 3), None, draw(1, 500, 3), None)


def test_nearest_neighbours():
    query, database = draw(1, 30, 5), draw(2, 500, 5)
    database[400] = database[20]  # a tie, of which the lower row comes first
    truth = NearestNeighbours(k=12).fit(draw(0, 9, 5), None)
    relevance = truth.relevance(query, None, database, None)
    order = np.argsort(distances(query, database), axis=1, kind="stable")[:, :12]
    assert relevance.ids.view(30, 12).tolist() == np.sort(order, 1).tolist()
    assert relevance.offsets.tolist() == list(range(0, 372, 12))
    assert relevance.database_size == 500
    first = NearestNeighbours(k=1).relevance(database[20:21], None, database, None)
    assert first.ids.tolist() == [20]


def test_nearest_neighbours_refusals():
    for value in (0, -1, 1.5, True, "100"):
        with pytest.raises(InvalidInputError, match=r"truth\.k=.*whole number of at least 1"):
            NearestNeighbours(k=value)
    with pytest.raises(InvalidInputError, match=r"truth\.k=100 exceeds the 60 items of the database; lower truth\.k"):
        NearestNeighbours().relevance(draw(0, 2, 3), None, draw(1, 60, 3), None)
    with pytest.raises(InvalidInputError, match="query features contain NaN"):
        NearestNeighbours(k=1).relevance(torch.full((2, 3), torch.nan), None, draw(1, 60, 3), None)
    with pytest.raises(InvalidInputError, match="database features have 0 rows"):
        NearestNeighbours(k=1).relevance(draw(0, 2, 3), None, draw(1, 0, 3), None)


@pytest.mark.parametrize(
    "truth", [Label(), EpsilonBall(neighbours=8), NearestNeighbours(k=9)], ids=lambda t: type(t).__name__
)
def test_blocks_make_up_the_training_affinity(truth: Affinity):
    train = draw(0, 40, 4)
    labels = torch.arange(40) % 7
    truth.fit(train, labels)
    whole = truth.block(train, labels, train, labels)
    assert whole.dtype == torch.bool
    assert whole.shape == (40, 40)
    assert bool(whole.diagonal().all())  # an item is its own neighbour
    assert 40 < int(whole.sum()) < 800
    parts = [truth.block(train[i : i + 7], labels[i : i + 7], train, labels) for i in range(0, 40, 7)]
    assert torch.equal(torch.cat(parts), whole)


def test_radius_within_the_database_is_that_part_s_own():
    ball = EpsilonBall(neighbours=3, among="database")
    assert (ball.learns_from, EpsilonBall().learns_from) == ("database", "train")
    with pytest.raises(
        InvalidInputError, match=r"needs a database part of more than 3 items, but it has 3; .* protocol\.database"
    ):
        ball.fit(torch.randn(3, 4), None)
    with pytest.raises(InvalidInputError, match=r"truth\.among='query'; expected one of: database, train"):
        EpsilonBall(among="query")


def test_wide_supervision_has_the_training_part_s_own_radius():
    generator = torch.Generator().manual_seed(0)
    train, database = torch.randn(80, 4, generator=generator), torch.randn(800, 4, generator=generator)
    truth = EpsilonBall(neighbours=5, among="database").fit(database, None)
    own = EpsilonBall(neighbours=5).fit(train, None)
    assert own.radius > 1.3 * truth.radius
    rows = torch.arange(80)
    assert torch.equal(truth.supervise(train, None).wide().among(rows), own.supervise(train, None).among(rows))
