"""BPR against plain NumPy, its gradient, and the steepness of its tanh."""

import numpy as np
import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.bpr import BPR, rank_candidates
from deephash.quantizers.relaxations.growing_tanh import GrowingTanh
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError


@pytest.fixture
def batch():
    """Five queries and their passages; one more passage is relevant to the first query."""
    generator = torch.Generator().manual_seed(0)
    projections, passages = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    quantizer = SBQ(6).double()
    quantizer.fit(projections + 0.3)
    quantizer.calibrate(3 * projections)
    relevant = torch.eye(5, dtype=torch.bool)
    relevant[0, 2] = True
    rows = torch.arange(5)
    codes = [projections.tanh(), (2 * passages).tanh()]
    return TrainingBatch(
        codes[0], projections, projections, rows, second_codes=codes[1], quantizer=quantizer, relevant=relevant
    )


def by_loops(batch, margin):
    queries, passages = batch.codes.numpy(), batch.second_codes.numpy()
    quantizer = batch.quantizer
    floats = (batch.projections.numpy() - quantizer.thresholds.detach().numpy()) / quantizer.unit.numpy()
    hinges, entropies = [], []
    for i in range(len(queries)):
        kept = [j for j in range(len(passages)) if j == i or not batch.relevant[i, j]]
        hinges += [max(0.0, margin - queries[i] @ passages[i] + queries[i] @ passages[j]) for j in kept if j != i]
        scores = {j: floats[i] @ passages[j] for j in kept}
        entropies.append(np.log(sum(np.exp(score) for score in scores.values())) - scores[i])
    return np.mean(hinges) + np.mean(entropies)


@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_it_equals_numpy(batch, margin):
    assert float(batch.quantizer.unit.std()) > 0
    assert float(BPR(margin)(batch).detach()) == pytest.approx(by_loops(batch, margin), rel=1e-9)
    with pytest.raises(InvalidInputError, match="margin=0"):
        BPR(0)


def test_the_gradient_is_that_of_the_value(batch):
    negatives = ~batch.relevant
    codes = batch.codes.clone().requires_grad_(), batch.second_codes.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda u, v: rank_candidates(u, v, 2.0, negatives), codes)
    assert float(rank_candidates(*codes, 2.0, torch.zeros_like(negatives)).detach()) == 0


def test_tanh_grows_with_the_square_root_of_the_steps():
    relaxation = GrowingTanh()
    margins = torch.tensor([-0.4, 0.0, 0.7], dtype=torch.float64)
    for step in (0, 10, 990):
        relaxation.set_step(step)
        expected = np.tanh(np.sqrt(0.1 * step + 1) * margins.numpy())
        assert relaxation(margins).numpy() == pytest.approx(expected, rel=1e-6)
