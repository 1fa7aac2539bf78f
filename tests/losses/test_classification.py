"""A linear classifier on codes, by cross-entropy and by squared error."""

import math

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.classification import Classification
from deephash.losses.dsdh import DSDH
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), labels)


def codes_of(n, length):
    return 2 * torch.rand(n, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1


LABELS = torch.tensor([0, 2, 1, 2])
INDICATOR = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]).bool()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_classification_is_its_definition(smoothing):
    loss = Classification(6, 3, label_smoothing=smoothing).double()
    codes = codes_of(4, 6)
    logits = (codes @ loss.classifier.weight.T + loss.classifier.bias).tolist()
    single = several = 0.0
    for i, row in enumerate(logits):
        total = math.log(sum(math.exp(value) for value in row))
        for c, value in enumerate(row):
            wanted = (1 - smoothing) * (c == LABELS[i]) + smoothing / 3
            single -= float(wanted) * (value - total) / 4
            wanted = float((1 - smoothing) * INDICATOR[i, c] + smoothing / 2)
            chance = 1 / (1 + math.exp(-value))
            several -= (wanted * math.log(chance) + (1 - wanted) * math.log(1 - chance)) / 12
    assert loss(batch_of(codes, LABELS)).item() == pytest.approx(single)
    assert loss(batch_of(codes, INDICATOR)).item() == pytest.approx(several)


@pytest.mark.parametrize("loss_class", [Classification, DSDH])
def test_trained_with_codes_it_tells_classes_from_them(loss_class):
    loss = loss_class(8, 3).double()
    codes = codes_of(60, 8).requires_grad_()
    batch = batch_of(codes, torch.arange(60) % 3)
    optimizer = torch.optim.Adam([codes, *loss.parameters()], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
    predict = loss.classifier if loss_class is Classification else loss.regression
    assert torch.equal(predict(codes).argmax(1), batch.labels)


def test_dsdh_is_its_definition():
    loss = DSDH(6, 3, ridge=0.5).double()
    codes = codes_of(4, 6)
    weight, bias = loss.regression.weight, loss.regression.bias
    for labels, indicator in ((LABELS, torch.eye(3)[LABELS]), (INDICATOR, INDICATOR)):
        errors = [
            (float(indicator[i, c]) - (weight[c] @ codes[i] + bias[c]).item()) ** 2 for i in range(4) for c in range(3)
        ]
        expected = sum(errors) / 4 + 0.5 * (weight**2).sum().item()
        assert loss(batch_of(codes, labels)).item() == pytest.approx(expected)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match=r"label_smoothing=1.5; expected a number from 0 to 1"):
        Classification(6, 3, label_smoothing=1.5)
    with pytest.raises(InvalidInputError, match="ridge=-1; expected a number of at least 0"):
        DSDH(6, 3, ridge=-1)
