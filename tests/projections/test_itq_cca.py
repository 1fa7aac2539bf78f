"""ITQ+CCA: canonical directions, their correlations, and the rotation."""

import numpy as np
import pytest
import torch

from deephash.functional.indicators import label_indicators
from deephash.projections.itq_cca import ITQCCA, LABEL_REGULARISATION, canonical_directions
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


LABELS = torch.arange(600) % 4
CENTRES = torch.randn(4, 10, generator=generator(1), dtype=torch.float64)
FEATURES = 3 + CENTRES[LABELS] + 2 * torch.randn(600, 10, generator=generator(2), dtype=torch.float64)
MULTI_LABELS = torch.rand(600, 6, generator=generator(3)) < 0.3


def numpy_cca(x, y, ridge):
    """Canonical correlations as the generalised eigenproblem that defines them."""
    x, y = x - x.mean(0), y - y.mean(0)
    n = len(x)
    cxx = x.T @ x / n + ridge * np.trace(x.T @ x / n) / x.shape[1] * np.eye(x.shape[1])
    cyy = y.T @ y / n + LABEL_REGULARISATION * np.eye(y.shape[1])
    cxy = x.T @ y / n
    squared, directions = np.linalg.eig(np.linalg.solve(cxx, cxy @ np.linalg.solve(cyy, cxy.T)))
    order = np.argsort(-squared.real)
    directions = directions.real[:, order]
    return np.sqrt(np.clip(squared.real[order], 0, None)), directions / np.sqrt(
        np.einsum("dk,de,ek->k", directions, cxx, directions)
    )


@pytest.mark.parametrize("labels", [LABELS, MULTI_LABELS], ids=["labels", "multi-labels"])
def test_directions_are_those_of_the_generalised_eigenproblem(labels):
    indicators = label_indicators(labels, torch.float64)
    mean, directions, correlations = canonical_directions(FEATURES, indicators, 3, 0.1)
    expected, plain = numpy_cca(FEATURES.numpy(), indicators.numpy(), 0.1)
    assert np.allclose(mean, FEATURES.numpy().mean(0))
    assert np.allclose(correlations, expected[:3], atol=1e-9)
    signs = np.sign((directions.numpy() * plain[:, :3]).sum(0))
    assert np.allclose(directions, plain[:, :3] * signs, atol=1e-7)


def test_first_direction_correlates_as_it_says():
    indicators = label_indicators(LABELS, torch.float64)
    mean, directions, correlations = canonical_directions(FEATURES, indicators, 3, 1e-9)
    projected = ((FEATURES - mean) @ directions).numpy()
    fitted = np.linalg.lstsq(indicators.numpy(), projected, rcond=None)[0]
    explained = (indicators.numpy() @ fitted).var(0) / projected.var(0)
    assert np.allclose(np.sqrt(explained), correlations, atol=2e-3)


def test_rotation_keeps_inner_products_of_the_scaled_directions():
    method = ITQCCA(10, 8).double().fit(FEATURES, labels=LABELS)
    _, directions, correlations = canonical_directions(FEATURES, label_indicators(LABELS), 8, method.regularisation)
    scaled = directions * correlations
    found = method.directions.detach()
    assert torch.allclose(found @ found.T, scaled @ scaled.T, atol=1e-9)
    assert torch.allclose(method.correlations[: len(correlations)], correlations)
    assert float(method.correlations[4:].abs().sum()) == 0


def test_more_bits_than_labels_are_spread_over_all():
    method = ITQCCA(10, 64).fit(FEATURES.float(), labels=LABELS)
    shares = (method(FEATURES.float()) >= 0).float().mean(0)
    assert bool(((shares > 0.1) & (shares < 0.9)).all())


def test_same_class_comes_closer_than_without_labels():
    bits = ITQCCA(10, 16).fit(FEATURES.float(), labels=LABELS)(FEATURES.float()) >= 0
    distances = (bits[:, None] != bits).float().mean(2)
    same = LABELS[:, None] == LABELS
    assert float(distances[~same].mean() - distances[same].mean()) > 0.15


def test_scale_of_the_features_does_not_matter():
    one = ITQCCA(10, 8).double().fit(FEATURES, labels=LABELS)(FEATURES)
    other = ITQCCA(10, 8).double().fit(1000 * FEATURES, labels=LABELS)(1000 * FEATURES)
    assert torch.allclose(one, other, atol=1e-6)


def test_bad_input_is_refused():
    with pytest.raises(InvalidInputError, match="the labels of all 600 training items are the same"):
        ITQCCA(10, 4).fit(FEATURES, labels=torch.zeros(600, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match="regularisation=0; expected a finite number above 0"):
        ITQCCA(10, 4, regularisation=0)
    with pytest.raises(InvalidInputError, match="iterations=0; expected a whole number"):
        ITQCCA(10, 4, iterations=0)


def test_large_class_indices_are_their_ranks():
    """Room for all classes below the largest would take gigabytes."""
    own = torch.tensor([999_983, 5, 1_000_003, 70_000])
    for classes in range(2, 5):
        ranks = torch.arange(len(FEATURES)) % classes
        rising = own[:classes].sort().values
        fitted = ITQCCA(FEATURES.shape[1], 6).fit(FEATURES, labels=rising[ranks])
        expected = ITQCCA(FEATURES.shape[1], 6).fit(FEATURES, labels=ranks)
        assert torch.equal(fitted.directions, expected.directions)
    assert label_indicators(torch.tensor([10**9, 3, 10**9])).tolist() == [[0, 1], [1, 0], [0, 1]]
    # A class in the middle that no item has keeps its column.
    assert label_indicators(torch.tensor([2, 0])).shape == (2, 3)
