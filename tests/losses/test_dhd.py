"""DHD: each term against loops, which codes each of them moves, and codes that are best."""

import math

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.dhd import DHD, distillation, likelihood_of_bits, proxy_cross_entropy
from deephash.validation import InvalidInputError

ITEMS, LENGTH, CLASSES = 6, 8, 3


def random_codes(seed=0, items=ITEMS):
    return 1.8 * torch.rand(items, LENGTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.9


def batch_of(codes, second, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), labels, second_codes=second)


def cosine(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True)) / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))


def gaussian_cross_entropy(value, deviation):
    """The two estimators of the paper, each with its own binary cross-entropy."""
    total = 0.0
    for corner in (1, -1):
        likelihood = math.exp(-((value - corner) ** 2) / (2 * deviation**2))
        chosen = (value >= 0) == (corner == 1)
        total -= math.log(likelihood) if chosen else math.log(1 - likelihood)
    return total


def looped(loss, teacher, student, classes):
    proxies = loss.proxies.tolist()
    labelled = [own for own in classes if own]
    likelihood = 0.0
    for u, own in zip(teacher.tolist(), classes, strict=True):
        scores = [math.exp(cosine(u, p) / loss.temperature) for p in proxies]
        likelihood -= sum(math.log(scores[c] / sum(scores)) / len(own) for c in own)
    distance = sum(1 - cosine(u, v) for u, v in zip(teacher.tolist(), student.tolist(), strict=True)) / len(teacher)
    bits = [gaussian_cross_entropy(value, loss.deviation) for value in teacher.flatten().tolist()]
    return (
        likelihood / max(1, len(labelled))
        + loss.distillation_weight * distance
        + loss.quantization_weight * sum(bits) / len(bits)
    )


SETTINGS = [{}, {"temperature": 0.5, "distillation_weight": 2, "quantization_weight": 0.3, "deviation": 0.8}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_is_the_loop_s(settings):
    loss = DHD(LENGTH, CLASSES, torch.Generator().manual_seed(1), **settings).double()
    teacher, student = random_codes(), random_codes(1)
    one = torch.tensor([0, 1, 2, 2, 1, 0])
    expected = looped(loss, teacher, student, [[c] for c in one.tolist()])
    assert loss(batch_of(teacher, student, one)).item() == pytest.approx(expected)
    several = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 0], [0, 1, 1]]).bool()
    expected = looped(loss, teacher, student, [row.nonzero()[:, 0].tolist() for row in several])
    assert loss(batch_of(teacher, student, several)).item() == pytest.approx(expected)


def test_the_student_learns_from_the_teacher_alone_and_the_teacher_not_from_it():
    teacher, student = random_codes().requires_grad_(), random_codes(1).requires_grad_()
    distillation(student, teacher).backward()
    assert teacher.grad is None
    assert bool((student.grad != 0).all())
    labels, loss = torch.tensor([0, 1, 2, 2, 1, 0]), DHD(LENGTH, CLASSES).double()
    gradients = []
    for other in (random_codes(1), random_codes(2)):
        codes = random_codes().requires_grad_()
        loss(batch_of(codes, other, labels)).backward()
        gradients.append(codes.grad)
    assert torch.equal(*gradients), "no student moves its teacher"


def test_a_student_of_a_fixed_teacher_ends_at_its_bits():
    teacher, margins = random_codes(), torch.atanh(random_codes(1)).requires_grad_()
    optimizer = torch.optim.Adam([margins], 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        distillation(margins.tanh(), teacher).backward()
        optimizer.step()
    large = teacher.abs() > 0.2
    assert torch.equal((margins >= 0)[large], (teacher >= 0)[large])


def test_the_proxy_of_the_class_is_the_best_direction_at_any_size():
    proxies = torch.eye(4, dtype=torch.float64)
    labels = torch.arange(4)
    best = proxy_cross_entropy(proxies, proxies, labels, 0.2)
    assert torch.isclose(proxy_cross_entropy(0.3 * proxies, 7 * proxies, labels, 0.2), best)
    assert best < proxy_cross_entropy(proxies.roll(1, 0), proxies, labels, 0.2)
    assert float(proxy_cross_entropy(proxies, proxies, torch.zeros(4, 4, dtype=torch.bool), 0.2)) == 0


def test_hard_bits_are_likeliest_and_the_cost_falls_towards_them():
    values = torch.linspace(0, 1, 50, dtype=torch.float64)
    costs = likelihood_of_bits(values[:, None], 0.5)[:, 0]
    assert bool((costs[1:] < costs[:-1]).all())
    assert torch.allclose(costs, likelihood_of_bits(-values[:, None], 0.5)[:, 0])
    assert float(costs[-1]) == pytest.approx(-math.log(1 - math.exp(-8)))


@pytest.mark.parametrize("name", ["temperature", "deviation", "distillation_weight", "quantization_weight"])
def test_settings_are_checked(name):
    for bad in (-1, float("nan")):
        with pytest.raises(InvalidInputError, match=f"{name}={bad}"):
            DHD(LENGTH, CLASSES, **{name: bad})
