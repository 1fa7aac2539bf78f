"""UCCH: both terms against loops, the memory's updates, and what the ranking prefers."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from deephash.data.views import Views
from deephash.losses.batch import TrainingBatch
from deephash.losses.ucch import UCCH, contrast_with_memory, ranking_cost
from deephash.validation import InvalidInputError

ITEMS, LENGTH = 5, 6


def random_batch(positions=(3, 0, 7, 4, 9), lacking=0, seed=0, length=LENGTH):
    """Codes of images and texts in a random order; the first items lack their text."""
    generator = torch.Generator().manual_seed(seed)
    items = len(positions)
    present = {"image": torch.ones(items, dtype=torch.bool), "text": torch.arange(items) >= lacking}
    features = Views({"image": torch.rand(items, 2), "text": torch.rand(items, 2)}, present)
    rows = torch.cat([torch.arange(items), torch.arange(lacking, items)])
    views = torch.cat([torch.zeros(items), torch.ones(items - lacking)]).long()
    codes = 1.8 * torch.rand(len(rows), length, generator=generator, dtype=torch.float64) - 0.9
    order = torch.randperm(len(rows), generator=generator)
    codes, rows, views = codes[order], rows[order], views[order]
    return TrainingBatch(codes, codes, features, torch.tensor(positions)[rows], rows=rows, views=views)


def unit(vector):
    size = math.sqrt(sum(a * a for a in vector))
    return [a / size for a in vector]


def dot(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True))


class SlowUCCH:
    """The method in plain Python: a dictionary as memory."""

    def __init__(self, alpha, temperature, momentum, margin, shift):
        self.alpha, self.temperature, self.momentum, self.margin, self.shift = (
            alpha,
            temperature,
            momentum,
            margin,
            shift,
        )
        self.memory = {}

    def __call__(self, batch):
        codes = {}
        for c, (row, view) in enumerate(zip(batch.rows.tolist(), batch.views.tolist(), strict=True)):
            codes.setdefault(row, {})[view] = (unit(batch.codes[c].tolist()), int(batch.positions[c]))
        pairs = [(both[0][0], both[1][0], both[0][1]) for _, both in sorted(codes.items()) if len(both) == 2]
        means = {place: unit([(a + b) / 2 for a, b in zip(u, v, strict=True)]) for u, v, place in pairs}
        for place, mean in means.items():
            self.memory.setdefault(place, mean)
        bits = {place: [1 if a >= 0 else -1 for a in code] for place, code in self.memory.items()}
        contrast = ranking = 0.0
        for u, v, place in pairs:
            for code in (u, v):
                scores = {p: math.exp(dot(code, b) / (math.sqrt(len(b)) * self.temperature)) for p, b in bits.items()}
                contrast -= math.log(scores[place] / sum(scores.values())) / len(pairs)
        for one, other in ((0, 1), (1, 0)):
            for pair in pairs:
                own = dot(pair[one], pair[other])
                total = 0.0
                for another in pairs:
                    score = dot(pair[one], another[other])
                    total += math.exp(score if score >= own - self.margin else score - self.shift)
                ranking += (math.log(total) - own + self.margin) / len(pairs)
        for place, mean in means.items():
            mixed = zip(self.memory[place], mean, strict=True)
            self.memory[place] = unit([self.momentum * old + (1 - self.momentum) * new for old, new in mixed])
        return self.alpha * contrast + (1 - self.alpha) * ranking


SETTINGS = [
    {"alpha": 0.7, "temperature": 0.9, "momentum": 0.4, "margin": 0.2, "shift": 0.1},
    {"alpha": 0.2, "temperature": 0.3, "momentum": 0.9, "margin": 0.0, "shift": 1.0},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("lacking", [0, 2])
def test_several_batches_are_the_loop_s(settings, lacking):
    slow, loss = SlowUCCH(**settings), UCCH(LENGTH, 10, **settings).double()
    # The second batch meets items again, and items that have not entered yet.
    for seed, positions in enumerate([(3, 0, 7, 4, 9), (9, 1, 0, 2, 5), (3, 7, 9, 8, 6)]):
        batch = random_batch(positions, lacking, seed)
        assert float(loss(batch)) == pytest.approx(slow(batch))
    assert loss.entered.nonzero()[:, 0].tolist() == sorted(slow.memory)
    for place, code in slow.memory.items():
        assert loss.memory[place].tolist() == pytest.approx(code)


def test_the_memory_gives_no_gradient_but_the_codes_have_theirs():
    loss = UCCH(LENGTH, 10).double()
    batch = random_batch()
    batch.codes.requires_grad_()
    loss(batch)
    value = loss(batch)
    value.backward()
    assert not loss.memory.requires_grad
    assert bool((batch.codes.grad.abs().sum(1) > 0).all())


def test_the_contrast_prefers_the_bits_of_the_item():
    bits = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [-1, -1, 1, 1]])
    own, codes = torch.eye(3).bool(), bits / 2
    assert contrast_with_memory(codes, bits, own, 0.5) < contrast_with_memory(codes.roll(1, 0), bits, own, 0.5)


def test_the_ranking_counts_all_others_and_hard_ones_more():
    similarities = torch.tensor([[0.9, 0.85, -0.5], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]], dtype=torch.float64)
    similarities.requires_grad_()
    ranking_cost(similarities, margin=0.2, shift=1.0).backward()
    slopes = similarities.grad[0]
    assert slopes[0] < 0 < slopes[2] < slopes[1]
    # Without a shift, the slopes are those of a softmax; with one, that of the easy item is lower.
    plain = similarities.detach().clone().requires_grad_()
    ranking_cost(plain, margin=0.2, shift=0.0).backward()
    assert plain.grad[0, 2] > slopes[2]


def test_a_large_memory_is_sampled_and_keeps_the_batch_s_own_items():
    loss = UCCH(LENGTH, 50, torch.Generator().manual_seed(1), negatives=4).double()
    for start in range(0, 50, 5):
        loss(random_batch(tuple(range(start, start + 5)), seed=start))
    compared = [loss._choose_compared(torch.tensor([3, 0, 7, 4, 9])) for _ in range(2)]
    for chosen in compared:
        assert {0, 3, 4, 7, 9} <= set(chosen.tolist())
        assert len(chosen) == len(set(chosen.tolist())) <= 9
    assert not torch.equal(*compared)
    again = copy.deepcopy(loss)
    assert torch.equal(loss(random_batch()), again(random_batch())), "the draw follows from the state"


def test_descent_brings_the_codes_of_a_pair_together_and_keeps_pairs_apart():
    batch = random_batch(length=16)
    margins = torch.atanh(batch.codes).requires_grad_()
    loss, optimizer = UCCH(16, 10).double(), torch.optim.Adam([margins], 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss(replace(batch, codes=margins.tanh())).backward()
        optimizer.step()
    hamming = ((margins[:, None] >= 0) != (margins >= 0)).sum(2)
    same = batch.rows[:, None] == batch.rows
    assert int(hamming[same].max()) < int(hamming[~same].min())


def test_without_a_whole_pair_it_is_zero_and_so_is_its_gradient():
    batch, loss = random_batch(lacking=ITEMS), UCCH(LENGTH, 10)
    batch.codes.requires_grad_()
    value = loss(batch)
    value.backward()
    assert float(value.detach()) == 0
    assert not batch.codes.grad.any()
    assert not loss.entered.any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", 1.5), ("temperature", 0), ("momentum", -0.1), ("negatives", 0), ("margin", -1), ("shift", float("nan"))],
)
def test_settings_are_checked(name, value):
    with pytest.raises(InvalidInputError, match=f"{name}="):
        UCCH(LENGTH, ITEMS, **{name: value})
