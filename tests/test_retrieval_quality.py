"""The methods on real CIFAR-10 GIST, in the order and the ranges of the published figures."""

import pytest
import torch

from deephash import Hasher
from deephash.metrics.average_precision import average_precision
from deephash.projections.itq import ITQ
from deephash.projections.lsh import LSH
from deephash.projections.pcah import PCAH
from deephash.quantizers.sbq import SBQ
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.relevance import SharedLabel

QUERIES_A_CLASS = 100

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def mean_average_precision(cifar10_gist):
    """mAP@all of a method at a length: 1,000 stratified queries, the other 59,000 trained on and searched."""
    features, labels, _ = cifar10_gist
    generator = torch.Generator().manual_seed(0)
    is_query = torch.zeros(len(features), dtype=torch.bool)
    for label in labels.unique():
        rows = torch.nonzero(labels == label).flatten()
        is_query[rows[torch.randperm(len(rows), generator=generator)[:QUERIES_A_CLASS]]] = True
    query, database = features[is_query], features[~is_query]
    relevance = SharedLabel(labels[is_query], labels[~is_query])
    known = {}

    def score(projection_class, bits):
        if (projection_class, bits) not in known:
            hasher = Hasher(projection_class(features.shape[1], bits), SBQ(bits)).fit(database)
            counts = AutoEngine().rank(hasher.encode(query), hasher.encode(database), hasher.distance, relevance)
            known[projection_class, bits] = float(average_precision(counts).mean())
        return known[projection_class, bits]

    return score


def test_itq_beats_lsh_and_lsh_beats_pcah_at_64_bits(mean_average_precision):
    itq, lsh, pcah = (mean_average_precision(method, 64) for method in (ITQ, LSH, PCAH))
    assert itq > lsh + 0.01
    assert lsh > pcah


def test_itq_rises_with_length(mean_average_precision):
    scores = [mean_average_precision(ITQ, bits) for bits in (16, 32, 64)]
    assert scores[0] < scores[1] < scores[2]


def test_pcah_does_not_rise_with_length(mean_average_precision):
    assert mean_average_precision(PCAH, 64) < mean_average_precision(PCAH, 16)


@pytest.mark.parametrize(
    ("method", "lengths", "least", "most"),
    [(ITQ, (16, 32, 64), 0.15, 0.19), (LSH, (64,), 0.12, 0.16), (PCAH, (16, 32, 64), 0.11, 0.14)],
)
def test_scores_lie_where_published_ones_do(mean_average_precision, method, lengths, least, most):
    for bits in lengths:
        assert least < mean_average_precision(method, bits) < most, bits
