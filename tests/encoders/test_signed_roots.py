"""Signed roots of unit length."""

import numpy as np
import torch

from deephash.encoders.signed_roots import SignedRoots

FEATURES = 3 * torch.randn(300, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_rows_are_roots_of_unit_length():
    values = FEATURES.numpy()
    roots = np.sign(values) * np.sqrt(np.abs(values))
    expected = roots / np.linalg.norm(roots, axis=1, keepdims=True)
    assert np.allclose(SignedRoots(6)(FEATURES).numpy(), expected)


def test_inner_products_are_bhattacharyya_coefficients():
    shares = FEATURES.abs()
    shares = shares / shares.sum(1, keepdim=True)
    roots = SignedRoots(6)(shares)
    expected = np.sqrt(shares.numpy()[:, None] * shares.numpy()[None]).sum(-1)
    assert np.allclose((roots @ roots.T).numpy(), expected)


def test_scale_does_not_matter_and_zeros_stay():
    encoder = SignedRoots(6)
    assert torch.allclose(encoder(7 * FEATURES), encoder(FEATURES))
    assert encoder(torch.zeros(2, 6)).eq(0).all()
    whole = encoder(torch.tensor([[4, 0, -4, 0, 0, 0]]))
    assert torch.allclose(whole, torch.tensor([[1.0, 0, -1, 0, 0, 0]]) / 2**0.5)


def test_gradients():
    features = (FEATURES[:5].sign() * (FEATURES[:5].abs() + 0.1)).requires_grad_()
    assert torch.autograd.gradcheck(SignedRoots(6), features)
