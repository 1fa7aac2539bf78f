"""The anchor map that kernel methods share."""

import pytest
import torch

from deephash.encoders.anchor_map import AnchorMap
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = 5 + 2 * torch.randn(200, 6, generator=generator(1))


@pytest.mark.parametrize("selection", ["kmeans", "random"])
def test_values_are_the_gaussian_kernel_at_the_mean_distance(selection):
    anchor_map = AnchorMap(6, 30, selection).fit(FEATURES, generator())
    squared = (FEATURES.double()[:, None] - anchor_map.centres.detach().double()).square().sum(2)
    assert float(anchor_map.bandwidth.detach()) ** 2 == pytest.approx(float(squared.mean()), rel=1e-5)
    expected = torch.exp(-squared / (2 * squared.mean()))
    assert torch.allclose(anchor_map(FEATURES).double(), expected, atol=1e-5)


def test_scale_of_the_features_does_not_matter():
    one = AnchorMap(6, 30, "random").fit(FEATURES, generator())(FEATURES)
    other = AnchorMap(6, 30, "random").fit(1000 * FEATURES, generator())(1000 * FEATURES)
    assert torch.allclose(one, other, atol=1e-4)


def test_every_item_is_an_anchor_where_there_are_few():
    anchor_map = AnchorMap(6, 300, "random").fit(FEATURES, generator())
    assert anchor_map.anchors == 200
    assert anchor_map(FEATURES).shape == (200, 200)
    assert torch.equal(anchor_map.centres.sort(0).values, FEATURES.sort(0).values)
    again = AnchorMap(6, anchor_map.anchors, "random")
    again.load_state_dict(anchor_map.state_dict())
    assert torch.equal(again(FEATURES), anchor_map(FEATURES))


def test_gradients():
    anchor_map = AnchorMap(6, 4, "random").double().fit(FEATURES.double(), generator())

    def kernel(features, centres, bandwidth):
        return torch.func.functional_call(anchor_map, {"centres": centres, "bandwidth": bandwidth}, features)

    inputs = (FEATURES[:3].double(), anchor_map.centres, anchor_map.bandwidth)
    assert torch.autograd.gradcheck(kernel, [tensor.detach().clone().requires_grad_() for tensor in inputs])


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="anchors=0; expected a whole number of at least 1"):
        AnchorMap(6, 0)
    with pytest.raises(InvalidInputError, match="selection='grid'; expected one of: kmeans, random"):
        AnchorMap(6, 3, "grid")
    with pytest.raises(InvalidInputError, match="all 9 training items are the same"):
        AnchorMap(6, 3, "random").fit(FEATURES[:1].expand(9, 6), generator())
