"""Distances from thresholds, against plain loops over quantisers of one and several."""

import pytest
import torch
from torch import nn

from deephash.affinity.label import Label
from deephash.quantizers.mhq import MHQ
from deephash.quantizers.sbq import SBQ
from deephash.quantizers.threshold_distances import threshold_distances, unit_thresholds
from deephash.quantizers.vbq import VBQ
from deephash.validation import InvalidInputError


def projections(seed=0, k=4):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(60, k, generator=generator) * torch.arange(1, k + 1)


@pytest.mark.parametrize("build", [lambda: SBQ(4), lambda: MHQ(8), lambda: VBQ(4)])
def test_distance_is_to_the_nearest_threshold_in_units(build):
    z = projections()
    quantizer = build()
    quantizer.fit(z, affinity=Label().supervise(z, torch.arange(60) % 3)).calibrate(z)
    with torch.no_grad():
        quantizer.thresholds.add_(0.1)
    allocation = getattr(quantizer, "allocation", None)
    found = threshold_distances(*unit_thresholds(z, quantizer))
    columns = []
    for j in range(4):
        thresholds = quantizer.thresholds[j].detach().reshape(-1).tolist()
        if allocation is not None:
            thresholds = thresholds[: 2 ** int(allocation[j]) - 1]
        if thresholds:
            unit = float((z[:, j] - z[:, j].mean()).abs().mean())
            columns.append([min(abs(value - t) for t in thresholds) / unit for value in z[:, j].tolist()])
    assert torch.allclose(found, torch.tensor(columns).T, atol=1e-5)
    assert found.requires_grad, "thresholds learn"


def test_dimensions_without_bits_have_no_distance():
    z = projections().requires_grad_()
    quantizer = VBQ(4)
    quantizer.allocation.copy_(torch.tensor([0, 1, 0, 3]))
    with torch.no_grad():
        quantizer.thresholds.copy_(torch.arange(quantizer.thresholds.numel()).view_as(quantizer.thresholds))
    values, thresholds = unit_thresholds(z, quantizer)
    assert thresholds.isfinite().sum(1).tolist() == [0, 1, 0, 7]
    distances = threshold_distances(values, thresholds)
    assert distances.shape == (60, 2)
    distances.sum().backward()
    for gradient in (z.grad, quantizer.thresholds.grad):
        assert bool(gradient.isfinite().all())
    assert (z.grad.abs().sum(0) > 0).tolist() == [False, True, False, True]
    assert (quantizer.thresholds.grad != 0).sum(1).tolist()[0] == 0


def test_without_a_quantizer_the_threshold_is_0():
    z = projections()
    assert torch.equal(threshold_distances(*unit_thresholds(z, None)), z.abs())


def test_a_quantizer_without_thresholds_is_refused():
    with pytest.raises(InvalidInputError, match="Linear has no thresholds for a loss to use"):
        unit_thresholds(projections(), nn.Linear(2, 2))
