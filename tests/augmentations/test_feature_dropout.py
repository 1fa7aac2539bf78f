"""Features set to zero."""

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


def test_bad_shares_are_refused():
    for bad in (-0.1, 1.5, "half"):
        with pytest.raises(InvalidInputError, match=f"share={bad!r}; expected a number from 0 to 1"):
            FeatureDropout(5, bad)
