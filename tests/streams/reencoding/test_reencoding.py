"""Policies: which codes each re-encodes, and what it remembers."""

import sys

import numpy as np
import pytest
import torch

from deephash.streams.reencoding.base import Staleness
from deephash.streams.reencoding.budget import Budget
from deephash.streams.reencoding.compatible import Compatible, chain_maps, fit_map, map_projections
from deephash.streams.reencoding.every import Every
from deephash.streams.reencoding.never import Never
from deephash.streams.reencoding.on_drift import OnDrift
from deephash.validation import InvalidInputError

MADE = torch.tensor([3, 1, 4, 2, 4, 1])
GENERATOR = torch.Generator().manual_seed(0)


def staleness(seen=1000, since=1000, precisions=()):
    return Staleness(MADE, 4, seen, since, torch.tensor(precisions, dtype=torch.float64))


def test_items_without_a_code_are_not_reencoded():
    versions = torch.tensor([0, 3, 0, 8])
    state = Staleness(versions, 8, 1000, 1000, torch.empty(0))
    assert (
        Every(1).due(state).tolist() == Budget(5).due(state).tolist() == Compatible(kept=2).due(state).tolist() == [1]
    )


def test_never():
    assert len(Never().due(staleness())) == 0


def test_every():
    assert Every(1000).due(staleness()).tolist() == [1, 5, 3, 0]
    assert len(Every(1000).due(staleness(since=999))) == 0


def test_budget_takes_the_oldest():
    assert Budget(2).due(staleness()).tolist() == [1, 5]
    assert Budget(100).due(staleness()).tolist() == [1, 5, 3, 0]


def test_compatible_makes_codes_of_too_old_functions_anew():
    assert Compatible(kept=2).due(staleness()).tolist() == [1, 3, 5]
    assert Compatible(kept=4).due(staleness()).tolist() == []
    assert Compatible(items=500).publishes(500)
    assert not Compatible(items=500).publishes(499)
    assert Never().publishes(1)
    with pytest.raises(InvalidInputError, match=r"reencoding.kept=1; expected at least 2"):
        Compatible(kept=1)


def test_maps_bring_new_projections_to_old_ones_and_chain():
    features = torch.randn(400, 6, generator=GENERATOR, dtype=torch.float64)
    oldest, old, new = (features @ torch.randn(6, 6, generator=GENERATOR, dtype=torch.float64) + i for i in range(3))
    to_old, to_oldest = fit_map(new, old, 1e-9), fit_map(old, oldest, 1e-9)
    assert torch.allclose(map_projections(new, to_old), old, atol=1e-4)
    assert torch.allclose(map_projections(new, chain_maps(to_old, to_oldest)), oldest, atol=1e-4)
    solved = np.linalg.lstsq(np.c_[new.numpy(), np.ones(400)], old.numpy(), rcond=None)[0]
    np.testing.assert_allclose(to_old, solved, atol=1e-4)


def steps(policy, precisions):
    """Steps of 20 items each; those at which codes are re-encoded."""
    found = []
    for i, level in enumerate(precisions):
        signal = (torch.rand(20, generator=GENERATOR) < level).double().tolist()
        if len(policy.due(staleness(seen=20 * (i + 1), precisions=signal))):
            found.append(i)
    return found


def test_on_drift_waits_for_a_change_and_once_more_until_it_has_settled():
    pytest.importorskip("river")
    policy = OnDrift(settle=400)
    assert steps(policy, [0.9] * 60) == []
    at = steps(policy, [0.2] * 60)
    assert len(policy.alarms) >= 1
    assert at[0] < 15
    assert len(at) > len(policy.alarms) - 1 >= 0
    assert at[-1] >= 20


def test_on_drift_goes_on_from_its_state():
    pytest.importorskip("river")
    signals = [(torch.rand(20, generator=GENERATOR) < (0.9 if i < 70 else 0.4)).double().tolist() for i in range(140)]

    def found(kill):
        policy, due = OnDrift(memory=500, settle=300), []
        for i, signal in enumerate(signals):
            due.append(len(policy.due(staleness(seen=20 * (i + 1), precisions=signal))))
            if i == kill:
                state, policy = policy.state(), OnDrift(memory=500, settle=300)
                policy.restore(state)
        return due, policy.alarms

    assert sum(found(None)[0]) > 0
    for kill in (10, 71, 80):
        assert found(kill) == found(None)


@pytest.mark.needs("river")
def test_on_drift_names_the_detectors_of_river():
    with pytest.raises(InvalidInputError, match=r"detector=Nothing is not in river.drift; give ADWIN, KSWIN or Page"):
        OnDrift(detector="Nothing")
    with pytest.raises(InvalidInputError, match="do not suit river's ADWIN"):
        OnDrift(settings={"nothing": 1})


def test_on_drift_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "river", None)
    monkeypatch.setitem(sys.modules, "river.drift", None)
    with pytest.raises(
        InvalidInputError, match=r"ADWIN needs river, which is not installed: pip install 'deephash\[stream\]'"
    ):
        OnDrift()
