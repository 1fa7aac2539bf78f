"""Predictable dual-view hashing: decorrelate bits, machines of the other view's bits, and real pairs."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from deephash.projections.paired.pdh import PDH, decorrelate, learn_directions
from deephash.validation import InvalidInputError

DIMENSIONS = {"image": 7, "text": 3}


def correlated_bits(n=300, k=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(n, 1, generator=generator)
    return common + 0.8 * torch.randn(n, k, generator=generator) >= 0.3


def mean_correlation(bits):
    correlations = np.corrcoef(bits.double().numpy().T)
    return float(np.abs(correlations - np.eye(len(correlations))).sum() / (correlations.size - len(correlations)))


def test_decorrelated_columns_are_orthonormal_and_the_nearest_such():
    bits = correlated_bits()
    found = decorrelate(bits, "nearest")
    torch.testing.assert_close(found.T @ found, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(found.mean(0), torch.zeros(6, dtype=torch.float64))
    # Procrustes: of all orthonormal matrices, U Vᵀ of the thin decomposition is nearest to the centred bits.
    centred = np.where(bits.numpy(), 1.0, -1.0)
    centred -= centred.mean(0)
    u, _, vt = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.numpy(), u @ vt, atol=1e-10)


def test_eigenvectors_are_those_of_the_products_of_items():
    bits = correlated_bits(n=60, k=4)
    found = decorrelate(bits, "eigenvectors").numpy()
    centred = np.where(bits.numpy(), 1.0, -1.0)
    centred -= centred.mean(0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    np.testing.assert_allclose(np.abs((found * vectors[:, -4:]).sum(0)), 1)
    assert values[-5] < 1e-8


def test_many_bits_of_few_dimensions_are_decorrelated():
    generator = torch.Generator().manual_seed(0)
    bits = torch.randn(574, 10, generator=generator) @ torch.randn(10, 64, generator=generator) >= 0
    nearest, eigenvectors = (decorrelate(bits, way) >= 0 for way in ("nearest", "eigenvectors"))
    assert mean_correlation(nearest) < 0.3 * mean_correlation(bits)
    assert mean_correlation(eigenvectors) < 0.2 * mean_correlation(bits)
    # Bits keep their meaning with one and lose it with the other.
    assert float((nearest == bits).double().mean()) > 0.85
    assert float((eigenvectors == bits).double().mean()) < 0.6


@pytest.mark.parametrize("way", ["nearest", "eigenvectors"])
def test_decorrelation_of_repeated_and_constant_bits(way):
    bits = correlated_bits()
    bits[:, 4] = bits[:, 0]
    bits[:, 5] = True
    found = decorrelate(bits, way)
    assert bool(found.isfinite().all())
    assert int(torch.linalg.matrix_rank(found.T @ found, rtol=1e-6)) == 4
    assert bool((decorrelate(torch.ones(5, 3, dtype=torch.bool), way) == 0).all())


def test_machines_are_those_without_intercept():
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    bits = features @ torch.randn(5, 3, generator=generator, dtype=torch.float64) >= 0.7
    found = learn_directions(features, bits, 0.5)
    for j in range(3):
        machine = LinearSVC(C=0.5, dual=False, fit_intercept=False, tol=1e-10, max_iter=10000)
        machine.fit(features.numpy(), bits[:, j].numpy())
        np.testing.assert_allclose(found[:, j].numpy(), machine.coef_[0], rtol=1e-4, atol=1e-6)


def fitted(noisy_pairs, k=6, **settings):
    features, _ = noisy_pairs(200)
    method = PDH(DIMENSIONS, k, **settings).double()
    return method.fit(features, generator=torch.Generator().manual_seed(3)), features


def plain(features, k, rounds, first):
    """The rounds with scikit-learn's machines and eigenvectors of the bits' k × k products."""
    items = []
    for rows in features.features.values():
        centred = rows.numpy() - rows.numpy().mean(0)
        items.append(centred / np.sqrt(np.square(centred).sum(1).mean()))
    bits = first

    def predict(side):
        machines = [
            LinearSVC(C=1.0, dual=False, fit_intercept=False, tol=1e-10, max_iter=10000).fit(items[side], bits[:, j])
            for j in range(k)
        ]
        return items[side] @ np.stack([machine.coef_[0] for machine in machines], 1) >= 0

    for _ in range(rounds):
        for side in (0, 1):
            signs = np.where(predict(side), 1.0, -1.0)
            signs -= signs.mean(0)
            values, vectors = np.linalg.eigh(signs.T @ signs)
            bits = signs @ (vectors / np.sqrt(values)) @ vectors.T >= 0
    return bits, [predict(side) for side in (0, 1)]


def test_agrees_with_plain_rounds(noisy_pairs):
    method = PDH(DIMENSIONS, 3, rounds=2).double()
    features, _ = noisy_pairs(200)
    scaled = [(x - x.mean(0)) / (x - x.mean(0)).square().sum(1).mean().sqrt() for x in features.features.values()]
    first = method._draw_initial_bits(scaled[1], scaled[0], torch.Generator().manual_seed(3))
    method.fit(features, generator=torch.Generator().manual_seed(3))
    bits, predicted = plain(features, 3, 2, first.numpy())
    assert np.mean(method.learnt_codes.numpy() == bits) > 0.995
    for name, expected in zip(DIMENSIONS, predicted, strict=True):
        assert np.mean((method.view(name)(features.of(name)) >= 0).numpy() == expected) > 0.99


def test_learnt_bits_are_balanced_and_predictable_and_decorrelated_by_eigenvectors(noisy_pairs):
    method, features = fitted(noisy_pairs, 12, rounds=1)
    bits = method.learnt_codes
    assert bits.shape == (200, 12)
    assert float((bits.double().mean(0) - 0.5).abs().max()) < 0.25
    for name in DIMENSIONS:
        assert float(((method.view(name)(features.of(name)) >= 0) == bits).double().mean()) > 0.7
    assert "learnt_codes" not in method.state_dict()
    apart = fitted(noisy_pairs, 12, rounds=1, decorrelation="eigenvectors")[0].learnt_codes
    assert mean_correlation(apart) < 0.5 * mean_correlation(bits)


def test_refusals(noisy_pairs):
    for settings, message in (
        ({"rounds": 0}, "rounds=0"),
        ({"cost": 0}, "cost=0"),
        ({"decorrelation": "no"}, "decorrelation='no'"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            PDH(DIMENSIONS, 4, **settings)
    features, _ = noisy_pairs()
    same = features.map({**features.features, "image": torch.ones(90, 7, dtype=torch.float64)})
    with pytest.raises(InvalidInputError, match="training items are the same in image"):
        PDH(DIMENSIONS, 4).fit(same)


@pytest.mark.data
def test_wiki(wiki_scores):
    """mAP@all of the published split at 32 bits, without labels, chance .111."""
    image_to_text, text_to_image = wiki_scores(PDH, 32)
    assert image_to_text > 0.225
    assert text_to_image > 0.195
