"""SePH: its divergence and regressions against plain versions, the descent, learnt codes, and Wiki."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from deephash.codes import pack
from deephash.data.views import Views
from deephash.functional.semantic_correlation import label_directions
from deephash.metrics.average_precision import average_precision
from deephash.projections.paired.seph import SePH, divergence, logistic_regressions, semantic_codes, unify_bits
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.distance import Hamming
from deephash.ranking.relevance import SharedLabel
from deephash.validation import InvalidInputError

DIMENSIONS = {"image": 7, "text": 4}
GENERATOR = torch.Generator().manual_seed(0)
SINGLE = torch.arange(90) % 3
MULTI = torch.rand(90, 5, generator=GENERATOR) < 0.3
MULTI[:2] = False
PAIRS = Views(
    {
        name: 2 * torch.randn(3, d, generator=GENERATOR)[SINGLE] + torch.randn(90, d, generator=GENERATOR)
        for name, d in DIMENSIONS.items()
    }
)


def fitted(labels=SINGLE, seed=0, bits=8, **settings):
    method = SePH(DIMENSIONS, bits, **settings)
    return method.fit(PAIRS, labels=labels, generator=torch.Generator().manual_seed(seed))


def plain_divergence(codes, labels, alpha):
    """The paper's objective, pair by pair, less the part without codes."""
    n, k = codes.shape
    if labels.ndim == 1:
        wanted = (labels[:, None] == labels).astype(float)
    else:
        lengths = np.sqrt(labels.sum(1))
        wanted = labels.astype(float) @ labels.T / np.maximum(np.outer(lengths, lengths), 1)
    close = np.array([[1 / (1 + np.square(h - g).sum() / 4) for g in codes] for h in codes])
    apart = ~np.eye(n, dtype=bool)
    p, q = wanted[apart] / wanted[apart].sum(), close[apart] / close[apart].sum()
    return -(p * np.log(q)).sum() + alpha / (n * k) * np.square(np.abs(codes) - 1).sum()


@pytest.mark.parametrize("labels", [SINGLE, MULTI], ids=["single", "multi"])
def test_divergence_and_its_gradient(labels, monkeypatch):
    monkeypatch.setattr("deephash.projections.paired.seph.BLOCK_PAIRS", 90 * 13)
    codes = torch.randn(90, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value, gradient = divergence(codes, label_directions(labels), 0.3)
    assert value == pytest.approx(plain_divergence(codes.numpy(), labels.numpy(), 0.3), rel=1e-12)
    for place in ((0, 0), (2, 3), (40, 5)):
        steps = []
        for step in (1e-5, -1e-5):
            moved = codes.numpy().copy()
            moved[place] += step
            steps.append(plain_divergence(moved, labels.numpy(), 0.3))
        assert float(gradient[place]) == pytest.approx((steps[0] - steps[1]) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("labels", [SINGLE, MULTI], ids=["single", "multi"])
def test_objective_never_rises_and_codes_follow_the_labels(labels):
    directions = label_directions(labels)
    codes, objectives = semantic_codes(directions, 16, 0.01, 100, torch.Generator().manual_seed(0))
    assert np.all(np.diff(objectives) <= 0)
    assert objectives[-1] < objectives[0] - 0.3
    assert objectives[-1] == pytest.approx(divergence(codes, directions, 0.01)[0], rel=1e-9)
    assert codes.mean(0).abs().max() < 1e-9
    signs = (codes >= 0).double() * 2 - 1
    distances = (16 - signs @ signs.T) / 2
    similar = directions @ directions.T
    apart = ~torch.eye(90, dtype=torch.bool)
    correlation = torch.corrcoef(torch.stack([distances[apart], similar[apart]]))[0, 1]
    assert correlation < -0.7


def test_regressions_equal_to_a_plain_solver():
    """½ uᵀ K u + C Σ log(1 + exp(-t (K(X, A) u + o))), by a general solver; equal and constant bits as well."""
    draws = torch.Generator().manual_seed(2)
    x, anchors = (torch.randn(n, 3, generator=draws, dtype=torch.float64) for n in (80, 6))
    kernel, own = (torch.exp(-torch.cdist(rows, anchors).square() / 2) for rows in (x, anchors))
    bits = torch.stack([x[:, 0] > 0.3, x[:, 1] > x[:, 2], x[:, 0] > 0.3, torch.zeros(80, dtype=torch.bool)], 1)
    coefficients, offsets = logistic_regressions(kernel, own, bits, 4.0)
    for j in range(2):
        t = np.where(bits[:, j].numpy(), 1.0, -1.0)

        def loss(v, t=t):
            margins = t * (kernel.numpy() @ v[:-1] + v[-1])
            weights = -4.0 * t / (1 + np.exp(margins))
            slope = np.append(own.numpy() @ v[:-1] + kernel.numpy().T @ weights, weights.sum())
            return 0.5 * v[:-1] @ own.numpy() @ v[:-1] + 4.0 * np.logaddexp(0, -margins).sum(), slope

        v = minimize(loss, np.zeros(7), jac=True, method="BFGS", options={"gtol": 1e-8}).x
        found = kernel @ coefficients[:, j] + offsets[j]
        np.testing.assert_allclose(found.numpy(), kernel.numpy() @ v[:-1] + v[-1], atol=1e-2)
        assert loss(torch.cat([coefficients[:, j], offsets[j : j + 1]]).numpy())[0] <= loss(v)[0] + 1e-4
    assert torch.equal(coefficients[:, 2], coefficients[:, 0])
    assert coefficients[:, 3].eq(0).all()
    assert offsets[3] == -1


def test_unified_bits_are_the_more_probable_ones():
    draws = torch.Generator().manual_seed(3)
    bits = torch.rand(50, 4, generator=draws) < torch.tensor([0.2, 0.5, 0.9, 1.0])
    bits[:, 3] = True
    first, second = (2 * torch.randn(300, 4, generator=draws) + 1 for _ in range(2))
    share = bits[:, :3].double().mean(0)
    yes = torch.sigmoid(first[:, :3].double()) * torch.sigmoid(second[:, :3].double()) / share
    no = torch.sigmoid(-first[:, :3].double()) * torch.sigmoid(-second[:, :3].double()) / (1 - share)
    found = unify_bits(first, second, bits)
    assert torch.equal(found[:, :3], yes >= no)
    assert torch.equal(unify_bits(torch.ones(1, 4), torch.ones(1, 4), bits)[0, 3:], torch.tensor([True]))


def test_learnt_codes_are_the_descent_s_and_of_items_left_out_both_views_together():
    whole = fitted()
    codes, objectives = semantic_codes(label_directions(SINGLE), 8, 0.01, 100, torch.Generator().manual_seed(0))
    assert torch.equal(whole.learnt_codes, codes >= 0)
    assert whole.objectives == tuple(objectives)
    part = fitted(items=30)
    sampled = torch.randperm(90, generator=torch.Generator().manual_seed(0))[:30]
    left = torch.ones(90, dtype=torch.bool)
    left[sampled] = False
    odds = (part.view(name)(PAIRS.of(name)[left]) for name in DIMENSIONS)
    assert torch.equal(part.learnt_codes[left], unify_bits(*odds, part.learnt_codes[sampled]))
    assert part.view("image").anchors == part.anchors == 30
    # Classes lie apart, so what was learnt of 30 items holds of the others.
    same = SINGLE[left, None] == SINGLE[sampled]
    distances = (part.learnt_codes[left][:, None] != part.learnt_codes[sampled]).double().mean(2)
    assert distances[same].mean() < 0.1 < 0.3 < distances[~same].mean()


@pytest.mark.parametrize("selection", ["kmeans", "random"])
def test_anchors_are_centres_or_items(selection):
    view = fitted(anchors=10, selection=selection).view("text")
    nearest = torch.cdist(view.anchor_rows, PAIRS.of("text")).min(1).values
    assert view.anchor_rows.shape == (10, 4)
    assert bool((nearest < 1e-3).all()) == (selection == "random")


def test_bad_input_is_refused():
    for settings, message in (
        ({"selection": "grid"}, "selection='grid'; expected one of: kmeans, random"),
        ({"alpha": 0}, "alpha=0; expected a finite number above 0"),
        ({"width": -1}, "width=-1; expected a finite number above 0"),
        ({"cost": 0}, "cost=0; expected a finite number above 0"),
        ({"anchors": 0}, "anchors=0; expected a whole number of at least 1"),
        ({"items": 0}, "items=0; expected a whole number of at least 1"),
        ({"rounds": 0}, "rounds=0; expected a whole number of at least 1"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            SePH(DIMENSIONS, 4, **settings)
    with pytest.raises(InvalidInputError, match="no two of 90 training items share a label"):
        fitted(labels=torch.arange(90))
    same = PAIRS.map({"image": torch.ones(90, 7), "text": PAIRS.of("text")})
    with pytest.raises(InvalidInputError, match="all 90 training items are the same in image"):
        SePH(DIMENSIONS, 4).fit(same, labels=SINGLE)


@pytest.mark.data
def test_lies_above_collective_matrix_factorisation_on_wiki(real_data):
    """Published split, both views coded by their functions alone; at 16 bits CMFH gives .215 and .205."""
    with np.load(real_data / "wiki.npz", allow_pickle=False) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored if name != "class_names"}
    train = Views({view: arrays[f"{view}_train"] for view in ("image", "text")})
    method = SePH(train.dimensions, 16, items=600, anchors=150).fit(train, labels=arrays["label_train"])
    relevance = SharedLabel(arrays["label_test"], arrays["label_train"])

    def score(query, database):
        return float(average_precision(AutoEngine().rank(query, database, Hamming(16), relevance)).mean())

    query, database = (
        {view: pack(method.view(view)(arrays[f"{view}_{part}"]) >= 0) for view in train.names}
        for part in ("test", "train")
    )
    assert score(query["image"], database["text"]) > 0.215 + 0.01
    assert score(query["text"], database["image"]) > 0.205 + 0.01
    # The other protocol: the database by what the labels and both views say.
    assert score(query["text"], pack(method.learnt_codes)) > score(query["text"], database["image"]) + 0.05
