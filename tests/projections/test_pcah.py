"""Principal components as projections."""

import numpy as np
import pytest
import torch

from deephash.projections.pcah import PCAH
from deephash.validation import InvalidInputError


def features_of(n=500, d=20):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator) @ torch.randn(d, d, generator=generator) + 4


@pytest.mark.parametrize("n", [500, 15])
def test_projections_equal_an_svd_up_to_sign(n):
    features = features_of(n)
    projections = PCAH(20, 8).fit(features)(features).detach().numpy()
    centred = features.double().numpy() - features.double().numpy().mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    expected = (left * singular)[:, :8]
    signs = np.sign((expected * projections).sum(0))
    np.testing.assert_allclose(projections, expected * signs, atol=1e-3)


def test_variances_fall_and_projections_do_not_correlate():
    features = features_of()
    projections = PCAH(20, 20).fit(features)(features).detach().double()
    covariance = projections.T @ projections / len(features)
    variances = covariance.diagonal()
    assert bool((variances.diff() < 0).all())
    assert float((covariance - variances.diag()).abs().max()) < 1e-4 * float(variances[0])


def test_more_projections_than_dimensions_are_refused_at_once():
    message = (
        "65 projections exceed the 64 directions PCAH can give for d=64 features; lower bits or choose a quantiser of "
        "several bits per projection."
    )
    with pytest.raises(InvalidInputError) as refusal:
        PCAH(64, 65)
    assert str(refusal.value) == message


def test_more_projections_than_the_rows_vary_in_are_refused():
    features = features_of()
    with pytest.raises(InvalidInputError, match="10 projections exceed the 9 directions in which the 10 training rows"):
        PCAH(20, 10).fit(features[:10])
    PCAH(20, 9).fit(features[:10])
    features[:, 12:] = 1.5
    with pytest.raises(
        InvalidInputError, match="13 projections exceed the 12 directions in which the 500 training row"
    ):
        PCAH(20, 13).fit(features)
    with pytest.raises(InvalidInputError, match="1 projections exceed the 0 directions in which the 30 training rows"):
        PCAH(20, 1).fit(torch.ones(30, 20))
