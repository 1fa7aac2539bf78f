"""The contrastive loss of pairs against NumPy, and what it leaves out."""

import numpy as np
import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.contrastive import Contrastive
from deephash.validation import InvalidInputError


def build_batch(n=6, length=10, relevant=None):
    generator = torch.Generator().manual_seed(0)
    queries, passages = 2 * torch.rand(2, n, length, generator=generator, dtype=torch.float64) - 1
    rows = torch.arange(n)
    return TrainingBatch(queries, queries, queries, rows, second_codes=passages, relevant=relevant)


def by_loops(queries, passages, temperature, relevant):
    losses = []
    for i, query in enumerate(queries):
        scores = [
            query @ passage / (len(query) * temperature)
            for j, passage in enumerate(passages)
            if j == i or not relevant[i, j]
        ]
        losses.append(np.log(np.sum(np.exp(scores))) - query @ passages[i] / (len(query) * temperature))
    return np.mean(losses)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_it_equals_numpy_and_leaves_out_other_relevant_passages(temperature):
    relevant = torch.eye(6, dtype=torch.bool)
    relevant[0, 3] = relevant[5, 1] = True
    batch = build_batch(relevant=relevant)
    arrays = batch.codes.numpy(), batch.second_codes.numpy()
    expected = by_loops(*arrays, temperature, relevant.numpy())
    assert float(Contrastive(temperature)(batch)) == pytest.approx(expected, rel=1e-12)
    plain = by_loops(*arrays, temperature, np.eye(6, dtype=bool))
    assert float(Contrastive(temperature)(build_batch())) == pytest.approx(plain, rel=1e-12)
    assert plain > expected


def test_codes_that_find_their_passages_cost_less():
    batch = build_batch()
    found = TrainingBatch(batch.codes, batch.codes, batch.codes, batch.positions, second_codes=batch.codes)
    assert float(Contrastive()(found)) < 0.1 * float(Contrastive()(batch))
    with pytest.raises(InvalidInputError, match="temperature=0"):
        Contrastive(0)
