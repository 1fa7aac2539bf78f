"""Weak changes of the first view, strong ones of the second."""

from functools import partial

import pytest
import torch

from deephash.augmentations.feature_dropout import FeatureDropout
from deephash.augmentations.noise import Noise
from deephash.augmentations.view_augmentations import ViewAugmentations
from deephash.augmentations.weak_and_strong import WeakAndStrong
from deephash.data.views import Views
from deephash.validation import InvalidInputError


def test_each_view_has_its_own_strength():
    torch.manual_seed(0)
    features = torch.randn(20_000, 2)
    augmentation = WeakAndStrong(2, partial(Noise, scale=0.2), partial(Noise, scale=1.5))
    for changed, scale in ((augmentation(features), 0.2), (augmentation.second(features), 1.5)):
        assert torch.allclose((changed - features).std(0), scale * features.std(0), rtol=0.03)
    augmentation.eval()
    assert torch.equal(augmentation.second(features), features)


def test_other_augmentations_draw_the_second_view_like_the_first():
    features = torch.ones(1000, 8)
    dropout = FeatureDropout(8, share=0.3)
    torch.manual_seed(0)
    first = dropout(features)
    torch.manual_seed(0)
    assert torch.equal(dropout.second(features), first)
    assert not torch.equal(dropout.second(features), first), "the next draw"


def test_two_views_of_features_pass_it_on():
    torch.manual_seed(0)
    parts = {name: WeakAndStrong(3, partial(Noise, scale=1e-6), partial(Noise, scale=2)) for name in ("image", "text")}
    views = Views(
        {name: torch.randn(500, 3) for name in parts}, {"image": [True] * 500, "text": [True] * 499 + [False]}
    )
    augmentation = ViewAugmentations(parts)
    for name in parts:
        before = views.features[name]
        assert torch.allclose(augmentation(views).features[name], before, atol=1e-4)
        moved = (augmentation.second(views).features[name] - before).abs().sum(1) > 0.1
        assert float(moved.float().mean()) > 0.9
    assert not moved[-1], "a view that an item lacks stays"


def test_what_is_no_augmentation_is_refused():
    for bad in (torch.nn.Linear(3, 3), lambda input_dim: torch.nn.Identity(), "noise"):
        with pytest.raises(InvalidInputError, match=r"strong=.*expected a function from input_dim to an augmentation"):
            WeakAndStrong(3, strong=bad)
