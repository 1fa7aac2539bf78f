"""Feature dropout."""

import pytest
import torch

from deephash.augmentations.feature_dropout import FeatureDropout
from deephash.validation import InvalidInputError


def test_a_share_becomes_zero_and_the_rest_stays():
    torch.manual_seed(0)
    features = 1 + torch.rand(2000, 50)
    result = FeatureDropout(50, share=0.3)(features)
    gone = result == 0
    assert torch.equal(result[~gone], features[~gone])
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(gone.float().mean(0).std()) < 0.02, "no feature is preferred"


@pytest.mark.parametrize(("share", "factor"), [(0, 1), (1, 0)])
def test_none_and_all(share, factor):
    features = 1 + torch.rand(20, 5)
    assert torch.equal(FeatureDropout(5, share)(features), factor * features)


def test_means_in_place_of_zeros_shift_no_mean():
    torch.manual_seed(0)
    features = 5 + torch.rand(4000, 6, dtype=torch.float64)
    result = FeatureDropout(6, share=0.4, replacement="mean")(features)
    gone = result != features
    assert float(gone.double().mean()) == pytest.approx(0.4, abs=0.02)
    means = torch.stack([sum(column) / 4000 for column in features.T])
    assert torch.allclose(result[gone], means.expand(4000, -1)[gone])
    assert torch.allclose(result.mean(0), means, atol=0.02)
    assert FeatureDropout(6, replacement="mean")(features[:0]).shape == (0, 6)


def test_other_replacements_are_refused():
    with pytest.raises(InvalidInputError, match="replacement"):
        FeatureDropout(5, replacement="median")


def test_bad_shares_are_refused():
    for bad in (-0.1, 1.5, "half"):
        with pytest.raises(InvalidInputError, match=f"share={bad!r}; expected a number from 0 to 1"):
            FeatureDropout(5, bad)
