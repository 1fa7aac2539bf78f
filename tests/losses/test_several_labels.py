"""Supervised losses for one and for several labels per item: values and gradients of plain loops."""

import math

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.classification import Classification
from deephash.losses.csq import CSQ
from deephash.losses.dpn import DPN
from deephash.losses.dpsh import DPSH
from deephash.losses.dsdh import DSDH
from deephash.losses.dsh import DSH
from deephash.losses.dtsh import DTSH
from deephash.losses.hashnet import HashNet
from deephash.losses.orthohash import OrthoHash
from deephash.validation import InvalidInputError

ITEMS, LENGTH, CLASSES = 7, 6, 4
# The labels of each item; with one label each, the first of them.
LABELS = [[0], [0, 2], [1, 2, 3], [3], [0, 1, 2], [1], [2, 3]]


def label_sets(several):
    return [set(own) if several else {own[0]} for own in LABELS]


def build_batch(codes, several):
    sets = label_sets(several)
    labels = torch.tensor([own[0] for own in LABELS])
    if several:
        labels = torch.tensor([[c in own for c in range(CLASSES)] for own in sets])
    neighbours = torch.tensor([[bool(a & b) for b in sets] for a in sets])
    return TrainingBatch(codes, codes, codes, torch.arange(ITEMS), labels, neighbours)


def dot(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True))


def softplus(x):
    return torch.log1p(torch.exp(x))


def pairs():
    return [(i, j) for i in range(ITEMS) for j in range(ITEMS) if i != j]


def majority(words, ties, own):
    return [
        math.copysign(1, vote) if (vote := sum(float(words[c][bit]) for c in own)) else float(ties[bit])
        for bit in range(LENGTH)
    ]


def plain_csq(loss, codes, sets):
    total = 0.0
    for u, own in zip(codes, sets, strict=True):
        for value, centre in zip(u, majority(loss.centres, loss.ties, own), strict=True):
            p = 0.01 + 0.98 * (1 + centre * value) / 2
            total = total - torch.log(p) + 0.0001 * torch.log(torch.cosh(value.abs() - 1))
    return total / (ITEMS * LENGTH)


def plain_dpn(loss, codes, sets):
    total = 0.0
    for u, own in zip(codes, sets, strict=True):
        for value, target in zip(u, majority(loss.codewords, loss.ties, own), strict=True):
            total = total + max(1 - target * value, value * 0)
    return total / (ITEMS * LENGTH)


def cosines_of(loss, u):
    size = torch.sqrt(dot(u, u))
    return [dot(u, [float(bit) for bit in word]) / size for word in loss.directions]


def plain_orthohash(loss, codes, sets):
    total = 0.0
    for u, own in zip(codes, sets, strict=True):
        logits = [8 * (cosine - 0.2 * (c in own)) for c, cosine in enumerate(cosines_of(loss, u))]
        normaliser = torch.log(sum(torch.exp(logit) for logit in logits))
        total = total + sum(normaliser - logits[c] for c in own) / len(own)
    return total / ITEMS


def plain_binary_orthohash(loss, codes, sets):
    total = 0.0
    for u, own in zip(codes, sets, strict=True):
        for c, cosine in enumerate(cosines_of(loss, u)):
            logit = 8 * (cosine - 0.2 * (c in own))
            total = total + softplus(-logit if c in own else logit) / CLASSES
    return total / ITEMS


def scores_of(layer, u):
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [dot(u, weights) + bias for weights, bias in rows]


def plain_classification(loss, codes, sets):
    total = 0.0
    for u, own in zip(codes, sets, strict=True):
        logits = scores_of(loss.classifier, u)
        if all(len(each) == 1 for each in sets):
            total = total + torch.log(sum(torch.exp(logit) for logit in logits)) - logits[min(own)]
        else:
            total = total + sum(softplus(-x if c in own else x) for c, x in enumerate(logits)) / CLASSES
    return total / ITEMS


def plain_dsdh(loss, codes, sets):
    total = 0.0
    for u, own in zip(codes, sets, strict=True):
        for c, score in enumerate(scores_of(loss.regression, u)):
            total = total + (int(c in own) - score) ** 2
    return total / ITEMS + 0.001 * sum(w**2 for w in loss.regression.weight.flatten().tolist())


def quantisation(codes):
    return sum((value.abs() - 1) ** 2 for u in codes for value in u) / (ITEMS * LENGTH)


def plain_dpsh(loss, codes, sets):
    total = 0.0
    for i, j in pairs():
        theta = dot(codes[i], codes[j]) / 2
        total = total + softplus(theta) - bool(sets[i] & sets[j]) * theta
    return total / len(pairs()) + 0.1 * quantisation(codes)


def plain_hashnet(loss, codes, sets):
    similar = [(i, j) for i, j in pairs() if sets[i] & sets[j]]
    total = 0.0
    for i, j in pairs():
        product = 10 / LENGTH * dot(codes[i], codes[j])
        if sets[i] & sets[j]:
            share = len(sets[i] & sets[j]) / len(sets[i] | sets[j]) if loss.label_shares else 1
            total = total + share * (softplus(product) - product) / len(similar)
        else:
            total = total + softplus(product) / (len(pairs()) - len(similar))
    return total


def plain_dtsh(loss, codes, sets):
    total, count = 0.0, 0
    for q, i in pairs():
        for j in range(ITEMS):
            if sets[q] & sets[i] and not sets[q] & sets[j]:
                total = total + softplus(-(dot(codes[q], codes[i]) / 2 - dot(codes[q], codes[j]) / 2 - LENGTH / 8))
                count += 1
    return total / count + quantisation(codes)


def plain_dsh(loss, codes, sets):
    total = 0.0
    for i, j in pairs():
        distance = sum((a - b) ** 2 for a, b in zip(codes[i], codes[j], strict=True))
        total = total + (distance if sets[i] & sets[j] else max(2 * LENGTH - distance, distance * 0)) / 2
    pull = 2 * sum((value.abs() - 1).abs() for u in codes for value in u) / ITEMS
    return total / len(pairs()) + 0.01 * pull


LOSSES = {
    "csq": (lambda: CSQ(LENGTH, CLASSES), plain_csq),
    "dpn": (lambda: DPN(LENGTH, CLASSES), plain_dpn),
    "orthohash": (lambda: OrthoHash(LENGTH, CLASSES), plain_orthohash),
    "orthohash, binary": (lambda: OrthoHash(LENGTH, CLASSES, several_labels="binary"), plain_binary_orthohash),
    "greedyhash": (lambda: Classification(LENGTH, CLASSES), plain_classification),
    "dsdh": (lambda: DSDH(LENGTH, CLASSES), plain_dsdh),
    "dpsh": (DPSH, plain_dpsh),
    "hashnet": (HashNet, plain_hashnet),
    "hashnet, equal weights": (lambda: HashNet(label_shares=False), plain_hashnet),
    "dtsh": (DTSH, plain_dtsh),
    "dsh": (DSH, plain_dsh),
}


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_those_of_plain_loops(name, several):
    build, plain = LOSSES[name]
    loss = build().double()
    if name == "orthohash, binary" and not several:
        plain = plain_orthohash  # The setting is only of several labels.
    drawn = 1.8 * torch.rand(ITEMS, LENGTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64) - 0.9
    codes = drawn.clone().requires_grad_()
    value = loss(build_batch(codes, several))
    value.backward()
    again = drawn.clone().requires_grad_()
    expected = plain(loss, [list(row) for row in again], label_sets(several))
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(codes.grad, again.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_a_table_of_one_label_each_is_the_same_as_class_numbers(name):
    if name in ("greedyhash", "orthohash, binary"):
        pytest.skip("a sigmoid for each class, not a softmax")
    loss = LOSSES[name][0]().double()
    codes = 1.8 * torch.rand(ITEMS, LENGTH, generator=torch.Generator().manual_seed(5), dtype=torch.float64) - 0.9
    batch = build_batch(codes, several=False)
    table = torch.nn.functional.one_hot(batch.labels, CLASSES).bool()
    tabled = TrainingBatch(codes, codes, codes, batch.positions, table, batch.neighbours)
    assert loss(tabled).item() == pytest.approx(loss(batch).item())


def test_neighbours_by_distance_without_a_common_label_have_full_weight():
    codes = torch.ones(2, LENGTH, dtype=torch.float64)
    labels = torch.tensor([[True, False], [False, True]])
    batch = TrainingBatch(codes, codes, codes, torch.arange(2), labels, torch.ones(2, 2, dtype=torch.bool))
    assert HashNet()(batch).item() == pytest.approx(math.log1p(math.exp(-10)))


def test_settings_are_checked():
    with pytest.raises(InvalidInputError, match="label_shares='yes'; expected true or false"):
        HashNet(label_shares="yes")
    with pytest.raises(InvalidInputError, match="several_labels='bce'; expected one of: binary, shares"):
        OrthoHash(8, 4, several_labels="bce")
