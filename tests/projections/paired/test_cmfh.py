"""CMFH: its rounds against plain ones over all items, an objective that never rises, its own codes, Wiki."""

import numpy as np
import pytest
import torch

from deephash.data.views import Views
from deephash.projections.paired.cmfh import CMFH
from deephash.validation import InvalidInputError

WEIGHT, LINEARITY, RIDGE = 0.3, 5.0, 0.002


def scaled(pairs):
    """Rows of each view, centred and of unit total variance, as columns."""
    rows = [pairs.of(name).numpy() for name in ("image", "text")]
    centred = [x - x.mean(0) for x in rows]
    return [(x / np.sqrt((x**2).sum(1).mean())).T for x in centred]


def plain_objective(views, bases, maps, factors):
    n = factors.shape[1]
    total = RIDGE * (factors**2).sum() / n
    for x, share, u, w in zip(views, (WEIGHT, 1 - WEIGHT), bases, maps, strict=True):
        total += share * ((x - u @ factors) ** 2).sum() / n
        total += LINEARITY * ((factors - w @ x) ** 2).sum() / n
        total += RIDGE * ((u**2).sum() + (w**2).sum())
    return total


def plain_rounds(views, k, rounds, seed):
    """Factors (k, n) of every item, updated one part at a time, and the objective after each part."""
    n = views[0].shape[1]
    stacked = np.concatenate(views)
    start = torch.randn(k, len(stacked), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).numpy()
    factors = start @ stacked
    factors /= np.sqrt((factors**2).sum() / n / k)
    shares, objectives = (WEIGHT, 1 - WEIGHT), []

    def best_maps():
        return [np.linalg.solve(x @ x.T / n + RIDGE / LINEARITY * np.eye(len(x)), x @ factors.T / n).T for x in views]

    for _ in range(rounds):
        bases = [
            np.linalg.solve(factors @ factors.T / n + RIDGE / s * np.eye(k), factors @ x.T / n).T
            for x, s in zip(views, shares, strict=True)
        ]
        maps = best_maps()
        objectives.append(plain_objective(views, bases, maps, factors))
        system = sum(s * u.T @ u for s, u in zip(shares, bases, strict=True)) + (2 * LINEARITY + RIDGE) * np.eye(k)
        pulls = [s * u.T @ x + LINEARITY * w @ x for x, s, u, w in zip(views, shares, bases, maps, strict=True)]
        factors = np.linalg.solve(system, sum(pulls))
        objectives.append(plain_objective(views, bases, maps, factors))
    maps = best_maps()
    objectives.append(plain_objective(views, bases, maps, factors))
    return factors, bases, maps, objectives


def fit(pairs, k=4, rounds=6, seed=0):
    method = CMFH(pairs.dimensions, k, WEIGHT, LINEARITY, RIDGE, rounds).double()
    return method.fit(pairs, generator=torch.Generator().manual_seed(seed))


def test_rounds_are_those_of_explicit_factors(noisy_pairs):
    pairs, _ = noisy_pairs()
    method, views = fit(pairs), scaled(pairs)
    factors, _, maps, objectives = plain_rounds(views, 4, 6, 0)
    for name, x, plain in zip(("image", "text"), views, maps, strict=True):
        assert np.allclose(method.view(name)(pairs.of(name)).detach(), (plain @ x).T, atol=1e-10)
    assert method.objectives[-1] == pytest.approx(objectives[-1], rel=1e-10)
    # A round's objective is taken once the next has its bases and maps.
    assert np.allclose(method.objectives[:-1], objectives[2:-1:2], rtol=1e-10)
    assert np.array_equal(method.learnt_codes, factors.T >= 0)


def test_every_part_of_a_round_lowers_the_objective(noisy_pairs):
    pairs, _ = noisy_pairs()
    steps = np.diff(plain_rounds(scaled(pairs), 4, 20, 1)[3])
    assert (steps <= 1e-12).all()
    assert steps[0] < -1e-3
    falls = fit(pairs, rounds=40, seed=1).objectives.diff()
    assert bool((falls <= 1e-12).all())
    assert bool((falls[:5] < 0).all())


def test_maps_are_the_best_for_the_factors(noisy_pairs):
    pairs, _ = noisy_pairs()
    views = scaled(pairs)
    factors, bases, maps, objectives = plain_rounds(views, 4, 3, 0)
    generator = np.random.default_rng(0)
    for _ in range(5):
        moved = [w + 0.01 * generator.standard_normal(w.shape) for w in maps]
        assert plain_objective(views, bases, moved, factors) > objectives[-1]


def test_number_and_scale_of_the_items_do_not_matter(noisy_pairs):
    pairs, _ = noisy_pairs()
    one = fit(pairs)
    twice = fit(Views({name: torch.cat([rows, rows]) for name, rows in pairs.features.items()}))
    larger = Views({"image": 1000 * pairs.of("image"), "text": pairs.of("text") / 1000})
    other = fit(larger)
    for name in ("image", "text"):
        projections = one.view(name)(pairs.of(name))
        assert torch.allclose(twice.view(name)(pairs.of(name)), projections, atol=1e-10)
        assert torch.allclose(other.view(name)(larger.of(name)), projections, atol=1e-10)


def test_learnt_codes_draw_on_both_views_and_are_not_kept(noisy_pairs):
    pairs, _ = noisy_pairs(3000)
    method = fit(pairs, 16)
    assert method.learnt_codes.shape == (3000, 16)
    assert "learnt_codes" not in method.state_dict()
    by_view = [method.view(name)(pairs.of(name)) >= 0 for name in ("image", "text")]
    agreement = [float((codes == method.learnt_codes).float().mean()) for codes in by_view]
    between = float((by_view[0] == by_view[1]).float().mean())
    assert min(agreement) > between
    assert max(agreement) < 1


def test_longer_codes_than_the_smaller_view_has_dimensions_go_on_gaining(noisy_pairs):
    pairs, labels = noisy_pairs(600)

    def share_of_nearest_in_class(k):
        method = CMFH(pairs.dimensions, k).double().fit(pairs)
        image, text = ((method.view(name)(pairs.of(name)) >= 0).double() * 2 - 1 for name in ("image", "text"))
        ranked = torch.argsort(image @ text.T, dim=1, descending=True, stable=True)[:, :100]
        return float((labels[ranked] == labels[:, None]).double().mean())

    assert share_of_nearest_in_class(48) > share_of_nearest_in_class(3) + 0.02


def test_factors_that_vanish_are_refused(noisy_pairs):
    pairs, _ = noisy_pairs()
    with pytest.raises(InvalidInputError, match=r"regularisation=10.0 leaves no factors of 90 training pairs; lower"):
        CMFH(pairs.dimensions, 4, regularisation=10.0).double().fit(pairs)


def test_a_view_in_which_nothing_varies_is_refused(noisy_pairs):
    pairs, _ = noisy_pairs()
    same = Views({"image": pairs.of("image"), "text": torch.ones(90, 3, dtype=torch.float64)})
    with pytest.raises(InvalidInputError, match="all 90 training items are the same in text; give data that vary"):
        CMFH(pairs.dimensions, 4).double().fit(same)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("weight", 0, "weight=0; expected a finite number above 0"),
        ("weight", 1.0, r"weight=1.0; expected a number between 0 and 1"),
        ("linearity", -1, "linearity=-1; expected a finite number above 0"),
        ("regularisation", 0, "regularisation=0; expected a finite number above 0"),
        ("rounds", 0, "rounds=0; expected a whole number of at least 1"),
    ],
)
def test_bad_settings_are_refused(setting, value, message):
    with pytest.raises(InvalidInputError, match=message):
        CMFH({"image": 7, "text": 3}, 4, **{setting: value})


@pytest.mark.data
def test_wiki_scores_rise_with_the_bits(wiki_scores):
    scores = np.array([wiki_scores(CMFH, bits) for bits in (16, 32, 64)])
    assert (scores >= [[0.215, 0.205], [0.23, 0.225], [0.24, 0.235]]).all(), scores
    assert (np.diff(scores, axis=0) > 0).all(), scores
