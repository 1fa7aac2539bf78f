"""Quantisation losses: distances from hard bits, and ITQ's error."""

import numpy as np
import pytest
import torch

from deephash.functional.procrustes import random_orthogonal
from deephash.losses.batch import TrainingBatch
from deephash.losses.greedy_penalty import GreedyPenalty
from deephash.losses.itq_error import ITQError, sign_error
from deephash.losses.quantization import Quantization
from deephash.projections.itq import iterative_quantisation
from deephash.quantizers.sbq import SBQ
from deephash.quantizers.vbq import VBQ
from deephash.validation import InvalidInputError


def sample(n=40, k=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator, dtype=torch.float64) * torch.arange(1, k + 1)


def batch_of(codes, projections, quantizer=None):
    return TrainingBatch(codes, projections, projections, torch.arange(len(codes)), quantizer=quantizer)


def test_losses_are_their_definitions():
    z, codes = sample(), sample(seed=1).tanh()
    quantizer = SBQ(5).double().fit(z).calibrate(z)
    with torch.no_grad():
        quantizer.thresholds.fill_(0.2)
    units = (z - z.mean(0)).abs().mean(0)
    margins = np.array([[abs(float(z[i, j]) - 0.2) / float(units[j]) for j in range(5)] for i in range(40)])
    batch = batch_of(codes, z, quantizer)
    assert GreedyPenalty()(batch).item() == pytest.approx((np.abs(margins - 1) ** 3).mean())
    assert Quantization()(batch).item() == pytest.approx(((margins - 1) ** 2).mean())
    expected = ((codes.abs().numpy() - 1) ** 2).mean()
    assert Quantization("codes")(batch).item() == pytest.approx(expected)


def test_hard_bits_lose_nothing():
    hard = sample().sign()
    assert float(GreedyPenalty()(batch_of(hard, hard))) == 0
    assert float(Quantization()(batch_of(hard, hard))) == 0
    assert float(Quantization("codes")(batch_of(hard, sample()))) == 0
    assert float(ITQError()(batch_of(hard, 7 * hard))) == pytest.approx(0, abs=1e-12)


def test_the_cube_is_softer_near_a_hard_bit_and_harder_from_afar():
    for margin, softer in ((1.4, True), (3.0, False)):
        z = torch.full((3, 2), margin)
        assert (float(GreedyPenalty()(batch_of(z, z))) < float(Quantization()(batch_of(z, z)))) == softer


def test_without_thresholds_there_is_nothing_to_lose():
    quantizer = VBQ(5)
    quantizer.allocation.zero_()
    for loss in (GreedyPenalty(), Quantization()):
        z = sample().requires_grad_()
        value = loss(batch_of(z, z, quantizer))
        assert float(value.detach()) == 0
        value.backward()
        assert not z.grad.any()


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_itq_error_is_the_best_of_all_scales(scale):
    z = scale * sample()
    bits = np.where(z.numpy() >= 0, 1.0, -1.0)
    scales = np.linspace(0.001, 3, 100_000) / scale
    # ‖B - αV‖² = nk - 2α Σ|v| + α² Σv², per entry.
    errors = 1 - 2 * scales * np.abs(z.numpy()).mean() + scales**2 * (z.numpy() ** 2).mean()
    best = scales[errors.argmin()]
    assert ((bits - best * z.numpy()) ** 2).mean() == pytest.approx(errors.min())
    assert float(sign_error(z)) == pytest.approx(errors.min(), abs=1e-6)


def test_itq_s_rotation_lowers_it_as_itq_s_own_error():
    z = sample(n=500)
    z = z - z.mean(0)
    rotation, errors = iterative_quantisation(z, 30, torch.Generator().manual_seed(0))
    start = random_orthogonal(5, torch.Generator().manual_seed(1))
    assert float(sign_error(z @ rotation)) < min(float(sign_error(z)), float(sign_error(z @ start)))
    # Its own error, n k + ‖V‖² - 2 Σ|v|, and this one are functions of Σ|v| alone.
    size = (500 * 5 + float(z.square().sum()) - float(errors[-1])) / 2
    assert float(sign_error(z @ rotation)) == pytest.approx(1 - size**2 / (500 * 5 * float(z.square().sum())), abs=1e-4)


def test_other_words_are_refused():
    with pytest.raises(InvalidInputError, match="of='bits'; expected one of: codes, projections"):
        Quantization("bits")
