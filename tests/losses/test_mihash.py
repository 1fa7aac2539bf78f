"""MIHash: mutual information against its definition and scikit-learn's, its range, and what is left out."""

import math

import pytest
import torch
from sklearn.metrics import mutual_info_score

from deephash.losses.batch import TrainingBatch
from deephash.losses.mihash import MIHash, mutual_information
from deephash.validation import InvalidInputError


def batch_of(codes, labels):
    return TrainingBatch(codes, codes, codes, torch.arange(len(codes)), neighbours=labels[:, None] == labels)


def random_codes(n=16, length=8):
    return 1.8 * torch.rand(n, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.9


def test_of_hard_codes_it_is_the_information_between_distances_and_neighbourhood():
    codes, labels = random_codes().sign(), torch.tensor([0] * 6 + [1] * 5 + [2] * 4 + [3])
    values = []
    for q in range(15):  # The last item has no neighbour.
        others = [i for i in range(16) if i != q]
        distances = [int((codes[q] != codes[i]).sum()) for i in others]
        values.append(mutual_info_score(distances, [int(labels[i] == labels[q]) for i in others]))
    assert float(MIHash()(batch_of(codes, labels))) == pytest.approx(-sum(values) / 15, abs=1e-6)


def test_of_histograms_it_is_the_definition():
    generator = torch.Generator().manual_seed(0)
    neighbours, others = (3 * torch.rand(2, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    neighbours[0, 2] = others[1, 4] = 0
    information = mutual_information(neighbours, others)
    for q in range(2):
        mass = float(neighbours[q].sum() + others[q].sum())
        entropy = conditional = 0.0
        for a, b in zip(neighbours[q].tolist(), others[q].tolist(), strict=True):
            entropy -= (a + b) / mass * math.log((a + b) / mass)
        for histogram in (neighbours[q], others[q]):
            shares = (histogram / histogram.sum()).tolist()
            conditional -= float(histogram.sum()) / mass * sum(p * math.log(p) for p in shares if p)
        assert float(information[q]) == pytest.approx(entropy - conditional)


def test_apart_it_is_the_entropy_of_neighbourhood_and_alike_it_is_nothing():
    codes = torch.ones(6, 8, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    assert float(MIHash()(batch_of(codes, labels))) == pytest.approx(0, abs=1e-6)
    codes[3:] = -1
    share = 2 / 5
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert float(MIHash()(batch_of(codes, labels))) == pytest.approx(-entropy)


def test_soft_bins_pass_a_finite_gradient_from_empty_ones():
    codes = random_codes().sign().requires_grad_()
    MIHash()(batch_of(codes, torch.arange(16) % 3)).backward()
    assert bool(codes.grad.isfinite().all())
    assert bool(codes.grad.any())


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [1, 1, 1]])
def test_a_batch_of_one_kind_says_nothing(labels):
    codes = random_codes(len(labels)).requires_grad_()
    value = MIHash()(batch_of(codes, torch.tensor(labels)))
    value.backward()
    assert value.item() == 0
    assert not codes.grad.any()


def test_bins_are_checked():
    with pytest.raises(InvalidInputError, match="bins=1; expected at least 2"):
        MIHash(1)
