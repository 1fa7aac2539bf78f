"""Simulated users: probabilities that follow from each model's definition, counted over many sessions."""

import math

import numpy as np
import pytest
import torch

from deephash.satisfaction.cascade import Cascade
from deephash.satisfaction.dynamic_bayesian import DynamicBayesian
from deephash.satisfaction.grid_browsing import GridBrowsing
from deephash.satisfaction.position_based import PositionBased
from deephash.satisfaction.sessions import get_chances
from deephash.validation import InvalidInputError

GRADES = torch.tensor([0, 2, 0, 1, 1, 0, 2, 0])
SESSIONS = 200_000
# Three standard errors of a share over as many sessions.
CLOSE = 3 * 0.5 / math.sqrt(SESSIONS)
MODELS = {
    "position-based": PositionBased((0.1, 0.5, 0.9), decay=0.7),
    "cascade": Cascade((0.1, 0.5, 0.9)),
    "dynamic Bayesian": DynamicBayesian((0.1, 0.5, 0.9), (0.0, 0.3, 0.8), 0.85),
    "grid": GridBrowsing((0.1, 0.5, 0.9), (0.0, 0.3, 0.8), 3, 1.5, 0.3, 0.6, 0.8),
}


def sessions(model, seed=0):
    lists = GRADES.expand(SESSIONS, -1)
    return model.read(lists, torch.Generator().manual_seed(seed))


def test_position_based_clicks_and_satisfaction():
    model = MODELS["position-based"]
    found = sessions(model)
    looks = np.arange(1, 9) ** -0.7
    clicks = looks * np.array([0.1, 0.9, 0.1, 0.5, 0.5, 0.1, 0.9, 0.1])
    assert found.clicks.double().mean(0).numpy() == pytest.approx(clicks, abs=CLOSE)
    content = 1 - np.prod(1 - clicks[[1, 3, 4, 6]])
    assert float(found.satisfied.double().mean()) == pytest.approx(content, abs=CLOSE)
    assert int(found.examined.min()) == 1
    assert int(found.examined.max()) == 8


def test_cascade_stops_at_the_first_click():
    found = sessions(MODELS["cascade"])
    chances = np.array([0.1, 0.9, 0.1, 0.5, 0.5, 0.1, 0.9, 0.1])
    reached = np.concatenate([[1], np.cumprod(1 - chances)[:-1]])
    assert found.clicks.double().mean(0).numpy() == pytest.approx(reached * chances, abs=CLOSE)
    assert int(found.clicks.sum(1).max()) == 1
    content = (reached * chances)[[1, 3, 4, 6]].sum()
    assert float(found.satisfied.double().mean()) == pytest.approx(content, abs=CLOSE)
    clicked = found.clicks.any(1)
    assert torch.equal(found.examined[clicked], found.clicks[clicked].int().argmax(1) + 1)
    assert (found.examined[~clicked] == 8).all()


def test_dynamic_bayesian_network():
    """The chances of being read, clicked and satisfied, by the model's recursion."""
    found = sessions(MODELS["dynamic Bayesian"])
    attraction = np.array([0.1, 0.9, 0.1, 0.5, 0.5, 0.1, 0.9, 0.1])
    satisfaction = np.array([0, 0.8, 0, 0.3, 0.3, 0, 0.8, 0])
    read, clicks, content = 1.0, [], 0.0
    for a, s in zip(attraction, satisfaction, strict=True):
        clicks.append(read * a)
        content += read * a * s
        read *= (1 - a * s) * 0.85
    assert found.clicks.double().mean(0).numpy() == pytest.approx(clicks, abs=CLOSE)
    assert float(found.satisfied.double().mean()) == pytest.approx(content, abs=CLOSE)


def test_grid_of_three_columns():
    """The chances of being looked at, clicked and satisfied, by the model's recursion over rows and pictures."""
    found = sessions(MODELS["grid"])
    attraction = np.array([0.1, 0.9, 0.1, 0.5, 0.5, 0.1, 0.9, 0.1])
    satisfaction = np.array([0, 0.8, 0, 0.3, 0.3, 0, 0.8, 0])
    ends = math.exp(-1 / (2 * 1.5**2))
    reached, clicks, content = 1.0, [], 0.0
    for row, places in enumerate((range(3), range(3, 6), range(6, 8))):
        attended = 1.0 if row == 0 else 0.7
        unsatisfied = 1.0
        for place in places:
            look = (ends, 1.0, ends)[place % 3]
            clicks.append(reached * attended * unsatisfied * look * attraction[place])
            content += reached * attended * unsatisfied * look * satisfaction[place]
            unsatisfied *= 1 - look * satisfaction[place]
        leaving = 0.4 * 0.8**row
        reached *= 1 - attended + attended * unsatisfied * (1 - leaving)
    assert found.clicks.double().mean(0).numpy() == pytest.approx(clicks, abs=CLOSE)
    assert float(found.satisfied.double().mean()) == pytest.approx(content, abs=CLOSE)


def test_a_user_who_wants_several_pictures():
    """Satisfied by at least three of six relevant pictures, each with chance .5; all rows are read."""
    user = GridBrowsing((0.0, 1.0), (0.0, 0.5), 4, math.inf, 0.0, 1.0, wanted=3)
    found = user.read(torch.tensor([1, 0, 1, 1, 0, 1, 1, 1]).expand(SESSIONS, -1), torch.Generator().manual_seed(0))
    chance = sum(math.comb(6, k) for k in range(3, 7)) / 2**6
    assert float(found.satisfied.double().mean()) == pytest.approx(chance, abs=CLOSE)
    assert int(found.clicks[found.satisfied].sum(1).min()) == 3
    assert (found.examined[~found.satisfied] == 8).all()


def test_no_row_after_the_first_is_read_if_all_are_skipped():
    user = GridBrowsing((0.0, 1.0), (0.0, 0.0), columns=2, skipping=1.0)
    found = user.read(torch.ones(1000, 6, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert found.clicks[:, :2].any()
    assert not found.clicks[:, 2:].any()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_same_seed_same_sessions_and_nothing_beyond_what_was_examined(model):
    one, other = sessions(model), sessions(model)
    assert torch.equal(one.clicks, other.clicks)
    assert torch.equal(one.satisfied, other.satisfied)
    assert not torch.equal(one.clicks, sessions(model, seed=1).clicks)
    ranks = torch.arange(1, 9)
    assert not (one.clicks & (ranks > one.examined[:, None])).any()
    nothing = model.read(torch.zeros(1000, 5, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert not nothing.satisfied.any()


def test_better_lists_satisfy_more():
    best, worst = GRADES.sort(descending=True).values, GRADES.sort().values
    for model in MODELS.values():
        rates = [
            float(model.read(order.expand(20_000, -1), torch.Generator().manual_seed(0)).satisfied.double().mean())
            for order in (best, worst)
        ]
        assert rates[0] > rates[1] + 0.05, model


def test_refusals():
    assert get_chances((0.1, 0.9), torch.tensor([0, 1, 5])).tolist() == [0.1, 0.9, 0.9]
    for chances in ((), (0.5, 1.2), (-0.1,)):
        with pytest.raises(InvalidInputError, match="expected one from 0 to 1 for each grade"):
            Cascade(chances)
    with pytest.raises(InvalidInputError, match="decay=-1"):
        PositionBased(decay=-1)
    with pytest.raises(InvalidInputError, match="expected one from 0 to 1"):
        DynamicBayesian(perseverance=1.5)
    with pytest.raises(InvalidInputError, match="expected one from 0 to 1"):
        GridBrowsing(skipping=1.5)
    for setting, value in (("columns", 0), ("wanted", 0), ("spread", 0.0)):
        with pytest.raises(InvalidInputError, match=f"{setting}=0"):
            GridBrowsing(**{setting: value})
