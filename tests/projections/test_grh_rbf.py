"""GRH with kernel machines: against a plain version, where lines fail, and the number of stored items."""

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from deephash.affinity.label import Label
from deephash.projections.grh import GRH
from deephash.projections.grh_rbf import GRHRBF
from deephash.projections.lsh import LSH
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


LABELS = torch.arange(240) % 4
CENTRES = torch.randn(4, 8, generator=generator(1), dtype=torch.float64)
FEATURES = 4 + CENTRES[LABELS] + torch.randn(240, 8, generator=generator(2), dtype=torch.float64)


def fitted(**settings):
    return GRHRBF(8, 6, **settings).double().fit(FEATURES, affinity=Label(), labels=LABELS, generator=generator(7))


@pytest.mark.parametrize(("rounds", "alpha", "cost", "gamma"), [(1, 1.0, 3.0, 2.0), (2, 0.8, 1.0, 0.5)])
def test_equal_to_plain_numpy(rounds, alpha, cost, gamma):
    x, labels = FEATURES.numpy(), LABELS.numpy()
    squared = np.square(x[:, None] - x).sum(2)
    similar = (labels[:, None] == labels).astype(float)
    averaging = similar @ np.diag(1 / similar.sum(0))
    start = LSH(8, 6).double().fit(FEATURES, generator=generator(7))(FEATURES).detach().numpy()
    initial = current = np.where(start >= 0, 1, -1)
    for _ in range(rounds):
        targets = np.where(alpha * averaging @ current + (1 - alpha) * initial >= -1e-9, 1, -1)
        machines = [SVC(C=cost, gamma=gamma / squared.mean(), tol=1e-6).fit(x, t) for t in targets.T]
        margins = np.stack([machine.decision_function(x) for machine in machines], 1)
        current = np.where(margins >= 0, 1, -1)
    found = fitted(rounds=rounds, alpha=alpha, cost=cost, gamma=gamma)
    np.testing.assert_allclose(found(FEATURES).detach().numpy(), margins, atol=0.02)
    assert found.bandwidth.item() == pytest.approx(np.sqrt(squared.mean() / (2 * gamma)))


def test_bends_around_rings_that_no_line_parts():
    angle = 2 * torch.pi * torch.rand(400, generator=generator(3))
    labels = torch.arange(400) % 2
    radius = 1 + 2 * labels + 0.2 * torch.randn(400, generator=generator(4))
    rings = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)

    def agreement(method):
        bits = method(2, 8).fit(rings, affinity=Label(), labels=labels, generator=generator())(rings) >= 0
        same = labels[:, None] == labels
        distances = (bits[:, None] != bits).float().mean(2)
        return float(distances[~same].mean() - distances[same].mean())

    assert agreement(GRHRBF) > 0.6
    assert agreement(GRH) < 0.3


def test_no_more_items_are_kept_than_asked_for():
    assert fitted().anchors == 240
    few = fitted(anchors=100)
    assert few.anchors == 100
    assert few.centres.shape == (100, 8)
    kept = (few.centres[:, None] == FEATURES).all(2).any(1)
    assert bool(kept.all())
    assert len(few.centres.unique(dim=0)) == 100
    # Its bits still part the classes of the items that were left out.
    bits = few(FEATURES) >= 0
    distances = (bits[:, None] != bits).double().mean(2)
    same = LABELS[:, None] == LABELS
    assert float(distances[~same].mean()) > 1.5 * float(distances[same].mean())


def test_scale_of_the_features_does_not_matter():
    other = GRHRBF(8, 6).double()
    other.fit(1000 * FEATURES, affinity=Label(), labels=LABELS, generator=generator(7))
    assert torch.allclose(fitted()(FEATURES), other(1000 * FEATURES), atol=1e-3)


def test_bad_settings_are_refused():
    for name, bad, expected in (
        ("rounds", 0, "a whole number of at least 1"),
        ("alpha", -0.1, "a number from 0 to 1"),
        ("cost", -1, "a finite number above 0"),
        ("gamma", 0, "a finite number above 0"),
        ("anchors", 2.5, "a whole number of at least 1"),
    ):
        with pytest.raises(InvalidInputError, match=f"{name}={bad}; expected {expected}"):
            GRHRBF(8, 6, **{name: bad})
    with pytest.raises(InvalidInputError, match="all 20 training items are the same, so a kernel"):
        GRHRBF(8, 6).fit(torch.ones(20, 8), labels=LABELS[:20], affinity=Label())
