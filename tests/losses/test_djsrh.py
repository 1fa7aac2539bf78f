"""DJSRH: against loops, what reconstructs its affinity, and items that lack a view."""

import math

import pytest
import torch

from deephash.data.views import Views
from deephash.losses.batch import TrainingBatch
from deephash.losses.djsrh import DJSRH, joint_semantics
from deephash.validation import InvalidInputError

ITEMS = 5


def random_batch(items=ITEMS, lacking=0, shuffle=False):
    """Codes of images and texts; the first items lack their text."""
    generator = torch.Generator().manual_seed(0)
    features = {
        "image": torch.rand(items, 7, generator=generator, dtype=torch.float64),
        "text": torch.rand(items, 3, generator=generator, dtype=torch.float64),
    }
    present = {"image": torch.ones(items, dtype=torch.bool), "text": torch.arange(items) >= lacking}
    rows = torch.cat([torch.arange(items), torch.arange(lacking, items)])
    views = torch.cat([torch.zeros(items), torch.ones(items - lacking)]).long()
    codes = 1.8 * torch.rand(len(rows), 6, generator=generator, dtype=torch.float64) - 0.9
    order = torch.randperm(len(rows), generator=generator) if shuffle else torch.arange(len(rows))
    codes, rows, views = codes[order], rows[order], views[order]
    return TrainingBatch(codes, codes, Views(features, present), rows, rows=rows, views=views)


def cosine(u, v):
    norms = [math.sqrt(sum(a * a for a in w)) for w in (u, v)]
    return sum(a * b for a, b in zip(u, v, strict=True)) / (norms[0] * norms[1])


def looped(batch, kept, beta, eta, mu, intra):
    images, texts = ([batch.features.features[name][i].tolist() for i in kept] for name in ("image", "text"))
    m = len(kept)
    joint = [
        [
            beta * (2 * cosine(images[i], images[j]) - 1) + (1 - beta) * (2 * cosine(texts[i], texts[j]) - 1)
            for j in range(m)
        ]
        for i in range(m)
    ]

    def target(i, j):
        return (1 - eta) * joint[i][j] + eta * sum(joint[i][k] * joint[j][k] for k in range(m)) / m

    places = zip(batch.views.tolist(), batch.rows.tolist(), strict=True)
    codes = {place: batch.codes[c].tolist() for c, place in enumerate(places)}
    total = 0.0
    for weight, one, other in ((1, 0, 1), (intra, 0, 0), (intra, 1, 1)):
        for i, a in enumerate(kept):
            for j, b in enumerate(kept):
                total += weight * (cosine(codes[one, a], codes[other, b]) - mu * target(i, j)) ** 2 / m**2
    return total


@pytest.mark.parametrize("lacking", [0, 2])
@pytest.mark.parametrize("settings", [(0.3, 0.4, 1.5, 0.3), (1.0, 0.0, 1.0, 0.0), (0.0, 1.0, 2.0, 1.0)])
def test_it_is_the_loop_s_whatever_the_order_and_whoever_lacks_a_view(lacking, settings):
    batch = random_batch(lacking=lacking, shuffle=True)
    assert float(DJSRH(*settings)(batch)) == pytest.approx(looped(batch, range(lacking, ITEMS), *settings))


def test_codes_that_reconstruct_the_affinity_lose_nothing():
    # Two kinds of items: cosines of features are 1 and 0, so affinities 1 and -1, as those of opposite codes.
    kinds = torch.tensor([0, 1, 0, 1])
    features = Views({name: torch.eye(2)[kinds] for name in ("image", "text")})
    signs = (2.0 * kinds - 1)[:, None] * torch.ones(4, 8)
    codes, rows = torch.cat([signs, signs]), torch.arange(4).repeat(2)
    batch = TrainingBatch(codes, codes, features, rows, rows=rows, views=torch.arange(2).repeat_interleave(4))
    assert float(DJSRH(mu=1)(batch)) == pytest.approx(0, abs=1e-9)
    assert torch.allclose(joint_semantics(torch.eye(2), torch.eye(2), 0.3, 0.4), 2 * torch.eye(2) - 1)


def test_without_a_whole_pair_it_is_zero_and_so_is_its_gradient():
    batch = random_batch(lacking=ITEMS)
    batch.codes.requires_grad_()
    value = DJSRH()(batch)
    value.backward()
    assert float(value.detach()) == 0
    assert not batch.codes.grad.any()


def test_an_empty_text_has_no_direction():
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert torch.isfinite(joint_semantics(features, features, 0.5, 0.5)).all()


@pytest.mark.parametrize(
    ("name", "value"), [("beta", 1.5), ("eta", -0.1), ("mu", 0), ("intra", -1), ("intra", float("nan")), ("mu", "big")]
)
def test_weights_are_checked(name, value):
    with pytest.raises(InvalidInputError, match=f"{name}="):
        DJSRH(**{name: value})
