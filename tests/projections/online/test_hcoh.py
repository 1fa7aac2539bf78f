"""HCOH: codewords of a Hadamard matrix, brought to the bits by LSH, and the gradient steps towards them."""

import numpy as np
import pytest
import torch

from deephash.projections.online.hcoh import HCOH, draw_codebook
from deephash.validation import InvalidInputError

GENERATOR = torch.Generator().manual_seed(0)


def test_codewords_of_the_matrix_s_own_order_differ_in_half_their_bits():
    words = draw_codebook(32, 32, GENERATOR)
    products = words @ words.T
    assert torch.equal(products, 32 * torch.eye(32))


def test_codewords_of_another_length_keep_their_angles():
    """Orthogonal rows: half of the bits, in the mean."""
    words = draw_codebook(64, 1500, GENERATOR)
    products = (words @ words.T) / 1500
    assert float((products - torch.eye(64)).abs().max()) < 0.15
    assert draw_codebook(16, 11, GENERATOR).shape == (16, 11)


def numpy_hcoh(x, targets, w, step, regularisation):
    for row, target in zip(x, targets, strict=True):
        f = np.tanh(row @ w)
        w = w - step * np.outer(row, (f - target) * (1 - f * f)) - regularisation * w
    return w


def test_equals_a_plain_version():
    labels = torch.randint(3, (90,), generator=GENERATOR)
    features = (
        torch.randn(3, 6, generator=GENERATOR).double()[labels] + torch.randn(90, 6, generator=GENERATOR).double()
    )
    projection = HCOH(6, 16, regularisation=0.01).double()
    projection.partial_fit(features[:20], labels[:20])
    start, mean = projection.directions.detach().numpy().copy(), projection.mean.numpy()
    projection.partial_fit(features[20:], labels[20:])
    x = features[20:].numpy() - mean
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    expected = numpy_hcoh(x, projection.codewords[labels[20:]].numpy(), start, 0.2, 0.01)
    np.testing.assert_allclose(projection.directions.detach().numpy(), expected, atol=1e-9)


def test_codes_come_to_be_the_codewords():
    labels = torch.randint(4, (800,), generator=GENERATOR)
    features = 3 * torch.randn(4, 10, generator=GENERATOR)[labels] + torch.randn(800, 10, generator=GENERATOR)
    projection = HCOH(10, 16)
    projection.partial_fit(features[:10], labels[:10])
    early = (projection(features) >= 0) == (projection.codewords[labels] > 0)
    projection.partial_fit(features[10:], labels[10:])
    late = (projection(features) >= 0) == (projection.codewords[labels] > 0)
    assert float(late.float().mean()) > max(0.9, float(early.float().mean()))


def test_an_item_without_labels_teaches_nothing_of_its_own():
    features, labels = torch.randn(30, 6, generator=GENERATOR), torch.zeros(30, 3, dtype=torch.bool)
    labels[:10, 1] = True
    projection = HCOH(6, 16)
    projection.partial_fit(features[:10], labels[:10])
    before = projection.directions.detach().clone()
    projection.partial_fit(features[10:], labels[10:])
    assert torch.allclose(projection.directions, before * (1 - 0.0001) ** 20)


def test_more_classes_than_codewords_are_refused():
    with pytest.raises(InvalidInputError, match="20 classes exceed the 16 codewords; give order=32"):
        HCOH(6, 16).partial_fit(torch.randn(5, 6, generator=GENERATOR), torch.tensor([0, 1, 2, 3, 19]))
    with pytest.raises(InvalidInputError, match="order=12; expected a power of two"):
        HCOH(6, 16, order=12)
