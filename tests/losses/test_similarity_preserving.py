"""The similarity-preserving loss: against a loop over pairs, and zero for codes with the features' similarities."""

import math

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.similarity_preserving import SimilarityPreserving


def batch_of(codes, features):
    return TrainingBatch(codes, codes, features, torch.arange(len(codes)))


def random_rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(one, other):
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


@pytest.mark.parametrize("centred", [True, False])
def test_it_is_the_loop_s(centred):
    codes, features = random_rows(7, 6).tanh(), random_rows(7, 5, seed=1) + 2
    mean = features.mean(0) if centred else torch.zeros(5)
    rows, places = (features - mean).tolist(), codes.tolist()
    costs = [
        (cosine(rows[i], rows[j]) - cosine(places[i], places[j])) ** 2 for i in range(7) for j in range(7) if i != j
    ]
    found = float(SimilarityPreserving(centred)(batch_of(codes, features)))
    assert found == pytest.approx(sum(costs) / len(costs))


def test_codes_at_the_features_angles_cost_nothing():
    signs = random_rows(8, 12).sign()
    features = torch.cat([signs, -signs])
    loss = SimilarityPreserving()
    assert float(loss(batch_of(features, 3 * features + 5))) == pytest.approx(0, abs=1e-12)
    assert (
        float(loss(batch_of(features[torch.randperm(16, generator=torch.Generator().manual_seed(0))], features))) > 0.1
    )


def test_features_far_from_the_origin_need_their_mean_taken_off():
    """All of them point one way, so that, as they are, the best codes would all be the same."""
    far, same = random_rows(10, 4) + 100, torch.ones(10, 8, dtype=torch.float64)
    assert float(SimilarityPreserving(centred=False)(batch_of(same, far))) < 0.001
    assert float(SimilarityPreserving()(batch_of(same, far))) > 0.5


def test_one_item_and_a_code_of_zeros_say_nothing():
    loss = SimilarityPreserving(centred=False)
    assert float(loss(batch_of(torch.ones(1, 4), torch.ones(1, 3)))) == 0
    codes = torch.zeros(2, 4, requires_grad=True)
    value = loss(batch_of(codes, torch.ones(2, 3)))
    value.backward()
    assert float(value.detach()) == pytest.approx(1)
    assert bool(codes.grad.isfinite().all())
