"""Agreement of two views with the similarity of labels: against the n × n matrix that the code avoids."""

import numpy as np
import pytest
import torch

from deephash.functional.semantic_correlation import (
    align_signs,
    label_directions,
    regularised_whitening,
    semantic_agreement,
)

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(60, 7, generator=GENERATOR, dtype=torch.float64) + 3
Y = torch.randn(60, 4, generator=GENERATOR, dtype=torch.float64) - 1
SINGLE = torch.randint(0, 5, (60,), generator=GENERATOR)
MULTI = torch.rand(60, 6, generator=GENERATOR) < 0.4
MULTI[3] = False


def plain_similarity(labels):
    """The cosine of labels, stretched to [-1, 1]: -1 for an item without a label."""
    if labels.ndim == 1:
        return np.where(labels[:, None] == labels, 1.0, -1.0)
    common = labels.astype(float) @ labels.T
    lengths = np.sqrt(labels.sum(1))
    return 2 * common / np.maximum(np.outer(lengths, lengths), 1) - 1


@pytest.mark.parametrize("labels", [SINGLE, MULTI], ids=["single", "multi"])
def test_agreement_equals_the_sum_over_pairs(labels):
    x, y = (rows.numpy() - rows.numpy().mean(0) for rows in (X, Y))
    expected = x.T @ plain_similarity(labels.numpy()) @ y / 60**2
    found = semantic_agreement(X, Y, (X.mean(0), Y.mean(0)), labels)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_an_item_without_a_label_is_like_none():
    directions = label_directions(MULTI)
    assert directions[3].eq(0).all()
    np.testing.assert_allclose((directions @ directions.T).diagonal()[MULTI.any(1)], 1.0)


def test_whitening_takes_its_ridge_in_units_of_the_variance():
    covariance = X.T.cov()
    root = regularised_whitening(covariance, 0.5)
    ridge = 0.5 * covariance.diagonal().mean() * torch.eye(7)
    np.testing.assert_allclose(root.T @ (covariance + ridge) @ root, np.eye(7), atol=1e-12)
    np.testing.assert_allclose(regularised_whitening(100 * covariance, 0.5).abs(), root.abs() / 10, atol=1e-9)


def test_a_pair_turns_as_one():
    first, second = torch.tensor([[-3.0, 1.0], [1.0, 2.0]]), torch.tensor([[1.0, -5.0]])
    turned = align_signs(first, second)
    assert turned[0].tolist() == [[3.0, 1.0], [-1.0, 2.0]]
    assert turned[1].tolist() == [[-1.0, -5.0]]
