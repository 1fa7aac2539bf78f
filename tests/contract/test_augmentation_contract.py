"""What every augmentation promises, and broken ones that the checks must refuse."""

import inspect

import pytest
import torch

from deephash.augmentations.base import Augmentation
from deephash.validation import InvalidInputError

# 16 × 16 pixels of 3 channels, and 48 filters of a GIST of 4 × 4 blocks: what any augmentation takes.
DIMENSION, ROWS = 768, 24
SIZES = {"orientations_per_scale": [16, 16, 16]}


@pytest.fixture
def features():
    """Twelve items, then the same again."""
    return torch.rand(ROWS // 2, DIMENSION, generator=torch.Generator().manual_seed(0)).repeat(2, 1)


def build(augmentation_class):
    taken = inspect.signature(augmentation_class).parameters
    return augmentation_class(DIMENSION, **{name: size for name, size in SIZES.items() if name in taken})


def changed(augmentation, features, seed=0):
    torch.manual_seed(seed)
    return augmentation(features)


def check_shapes_and_dtypes(augmentation_class, features):
    augmentation = build(augmentation_class)
    before = features.clone()
    for given in (features, features.double()):
        for rows in (0, 1, ROWS):
            result = changed(augmentation, given[:rows])
            assert result.shape == (rows, DIMENSION)
            assert result.dtype == given.dtype
            assert bool(result.isfinite().all())
    assert torch.equal(features, before), "the input is changed"


def check_draws(augmentation_class, features):
    augmentation = build(augmentation_class)
    result = changed(augmentation, features)
    assert not torch.equal(result, features), "nothing changes"
    assert torch.equal(changed(augmentation, features), result), "the draw is not torch's alone"
    assert not torch.equal(changed(augmentation, features, seed=1), result), "every draw is the same"
    first, second = result.chunk(2)
    assert not torch.equal(first, second), "the same item is changed in the same way wherever it stands"


def check_evaluation(augmentation_class, features):
    augmentation = build(augmentation_class).eval()
    assert torch.equal(changed(augmentation, features), features)


def check_device(augmentation_class, features):
    """On torch's meta device, which holds no values but refuses to mix with the CPU, as a GPU does."""
    result = build(augmentation_class).to("meta")(features.to("meta"))
    assert result.device.type == "meta"
    assert result.shape == features.shape


def check_refusals(augmentation_class, features):
    for bad in (0, -8, 1.5, True, "768", None):
        with pytest.raises(InvalidInputError, match=f"input_dim={bad!r}; expected a whole number"):
            augmentation_class(bad)


def check_docstring(augmentation_class, features):
    for section in ("Shape:", "Args:", "Raises:", "References:"):
        assert f"{section}\n" in augmentation_class.__doc__, section


CHECKS = [
    check_shapes_and_dtypes,
    check_draws,
    check_evaluation,
    check_device,
    check_refusals,
    check_docstring,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_contract(check, augmentation_class, features):
    check(augmentation_class, features)


class Brighter(Augmentation):
    """An augmentation that keeps the contract, for the broken ones below to break."""

    def change(self, features):
        return features + 0.1 * torch.rand(len(features), 1, dtype=features.dtype, device=features.device)


class SinglePrecision(Brighter):
    def change(self, features):
        return super().change(features).float()


class InPlace(Brighter):
    def change(self, features):
        return features.mul_(0.9)


class OneDraw(Brighter):
    def change(self, features):
        return features + 0.1 * torch.rand(())


class OwnDraw(Brighter):
    def __init__(self, input_dim):
        super().__init__(input_dim)
        self.generator = torch.Generator().manual_seed(0)

    def change(self, features):
        return features + 0.1 * torch.rand(len(features), 1, generator=self.generator)


class Nothing(Brighter):
    def change(self, features):
        return features


class Always(Brighter):
    def forward(self, features):
        return self.change(features)


class OnTheCPU(Brighter):
    def change(self, features):
        return features + torch.rand(len(features), 1)


class AnyDimension(Brighter):
    def __init__(self, input_dim):
        super().__init__(DIMENSION)


BROKEN = [
    (SinglePrecision, check_shapes_and_dtypes),
    (InPlace, check_shapes_and_dtypes),
    (OneDraw, check_draws),
    (OwnDraw, check_draws),
    (Nothing, check_draws),
    (Always, check_evaluation),
    (OnTheCPU, check_device),
    (AnyDimension, check_refusals),
    (Brighter, check_docstring),
]


@pytest.mark.parametrize(("broken", "check"), BROKEN)
def test_contract_refuses_what_breaks_it(broken, check, features):
    if check is not check_docstring:
        check(Brighter, features)
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        check(broken, features)
