"""Quantisers of two bits per dimension on real CIFAR-10 GIST, in the order of the published figures.

Moran, "Learning to hash for large scale image retrieval" (Edinburgh, 2016), AUPRC at 32 bits, truth by ε-ball, SBQ, HQ,
DBQ, MHQ: on ITQ .267, .224, .221, .217; on PCAH .039, .078, .108, .141. The ball there has the radius of neighbours in
the whole set, a few hundred of 60,000 items.
"""

import pytest
import torch

from deephash import Hasher
from deephash.affinity.epsilon_ball import EpsilonBall
from deephash.metrics.average_precision import average_precision
from deephash.metrics.pr_curve import auprc_micro
from deephash.projections.itq import ITQ
from deephash.projections.lsh import LSH
from deephash.projections.pcah import PCAH
from deephash.quantizers.dbq import DBQ
from deephash.quantizers.hq import HQ
from deephash.quantizers.mhq import MHQ
from deephash.quantizers.sbq import SBQ
from deephash.ranking.auto_engine import AutoEngine

BITS = 32
QUANTIZERS = (SBQ, HQ, DBQ, MHQ)

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def scores(cifar10_gist):
    """AUPRC (micro) and mAP by projection and quantiser, fitted on 2,000 items, 20,000 others searched."""
    features = cifar10_gist[0][torch.randperm(60_000, generator=torch.Generator().manual_seed(0))]
    query, train, database = features[:500], features[500:2500], features[2500:22_500]
    # As the 50th of some 60,000 neighbours: a ball that holds the same share of items.
    truth = EpsilonBall(neighbours=17, sample=500).fit(database, None)
    relevance = truth.relevance(query, None, database, None)
    found = {}
    for projection_class in (LSH, ITQ, PCAH):
        for quantizer_class in QUANTIZERS:
            quantizer = quantizer_class(BITS)
            hasher = Hasher(projection_class(512, quantizer.projection_dim), quantizer).fit(train)
            counts = AutoEngine().rank(hasher.encode(query), hasher.encode(database), hasher.distance, relevance)
            area = float(auprc_micro(counts))
            found[projection_class, quantizer_class] = area, float(average_precision(counts).nanmean())
    return found


def test_one_bit_a_dimension_wins_on_lsh_and_itq_by_auprc(scores):
    for projection in (LSH, ITQ):
        single, *double = (scores[projection, quantizer][0] for quantizer in QUANTIZERS)
        assert single > 1.1 * max(double)


def test_each_quantizer_beats_the_one_before_on_principal_components(scores):
    single, hierarchical, double, manhattan = (scores[PCAH, quantizer][0] for quantizer in QUANTIZERS)
    assert single < hierarchical < double < manhattan
    assert manhattan > 2 * single


def test_manhattan_hashing_has_the_highest_mean_average_precision_on_itq_and_pcah(scores):
    """The finding of its own paper, by the mean over queries."""
    for projection in (ITQ, PCAH):
        *others, manhattan = (scores[projection, quantizer][1] for quantizer in QUANTIZERS)
        assert manhattan > max(others) + 0.02


@pytest.mark.parametrize(
    ("projection", "published"), [(ITQ, (0.267, 0.224, 0.221, 0.217)), (PCAH, (0.039, 0.078, 0.108, 0.141))]
)
def test_scores_lie_near_the_published(scores, projection, published):
    for quantizer, figure in zip(QUANTIZERS, published, strict=True):
        assert scores[projection, quantizer][0] == pytest.approx(figure, abs=0.04), quantizer.__name__
