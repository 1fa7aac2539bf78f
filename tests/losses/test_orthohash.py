"""OrthoHash: softmax of cosines with codewords."""

import math

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.orthohash import OrthoHash
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), labels)


def codes_of(n, length):
    return 2 * torch.rand(n, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1


def plain(codes, codewords, classes_of, scale, margin):
    """Cross-entropy by its definition, item by item, of those with classes."""
    terms = []
    for u, own in zip(codes, classes_of, strict=True):
        if not own:
            continue
        logits = []
        for c, w in enumerate(codewords):
            cosine = float(u @ w.double() / (u.norm() * w.double().norm()))
            logits.append(scale * (cosine - margin * (c in own)))
        total = math.log(sum(math.exp(value) for value in logits))
        terms.append(sum(total - logits[c] for c in own) / len(own))
    return sum(terms) / len(terms)


def test_loss_is_its_definition():
    loss = OrthoHash(8, 4, scale=5.0, margin=0.3)
    codes = codes_of(6, 8)
    own = [[0], [1, 3], [], [2], [0, 1, 2, 3], [3]]
    labels = torch.tensor([[c in classes for c in range(4)] for classes in own])
    assert float(loss(batch_of(codes, labels))) == pytest.approx(plain(codes, loss.directions, own, 5, 0.3), abs=1e-6)


def test_one_class_is_an_indicator_of_one():
    loss = OrthoHash(8, 4)
    codes, labels = codes_of(6, 8), torch.tensor([0, 1, 2, 3, 3, 0])
    indicator = torch.nn.functional.one_hot(labels, 4).bool()
    assert torch.allclose(loss(batch_of(codes, labels)), loss(batch_of(codes, indicator)))


def test_size_of_codes_does_not_matter_and_codewords_are_best_among_hard_codes():
    loss = OrthoHash(8, 2, codewords="hadamard")
    codes, labels = codes_of(2, 8), torch.arange(2)
    assert torch.allclose(loss(batch_of(codes, labels)), loss(batch_of(0.1 * codes, labels)))
    words = loss.directions * 8**0.5
    at_words = float(loss(batch_of(words, labels)))
    assert at_words == pytest.approx(math.log(1 + math.exp(8 * 0.2 - 8)), abs=1e-6)
    for bit in range(8):
        flipped = words.clone()
        flipped[:, bit] *= -1
        # A bit that both classes have tells them apart neither way.
        tells = bool(words[0, bit] != words[1, bit])
        assert (float(loss(batch_of(flipped, labels))) > at_words + 1e-6) == tells


def test_hadamard_codewords_are_orthogonal():
    directions = OrthoHash(16, 10, codewords="hadamard").directions
    assert torch.allclose(directions @ directions.T, torch.eye(10), atol=1e-6)


def test_a_margin_raises_the_loss():
    codes, labels = codes_of(6, 8), torch.tensor([0, 1, 2, 3, 3, 0])
    losses = [float(OrthoHash(8, 4, margin=margin)(batch_of(codes, labels))) for margin in (0.0, 0.2, 0.5)]
    assert losses == sorted(losses)
    assert losses[0] < losses[1]


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="scale=-1; expected a finite number above 0"):
        OrthoHash(8, 4, scale=-1)
    with pytest.raises(InvalidInputError, match="margin=nan; expected a finite number"):
        OrthoHash(8, 4, margin=float("nan"))
    with pytest.raises(InvalidInputError, match="codewords='gold'; expected one of: bernoulli, hadamard"):
        OrthoHash(8, 4, codewords="gold")
