"""SKLSH: Hamming distances follow the Gaussian kernel as the paper's series says."""

import math

import numpy as np
import pytest
import torch

from deephash import Hasher
from deephash.metrics.average_precision import average_precision
from deephash.projections.lsh import LSH
from deephash.projections.sklsh import SKLSH, expected_hamming_share
from deephash.quantizers.sbq import SBQ
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.relevance import SharedLabel
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = 3 + torch.randn(300, 8, generator=generator(), dtype=torch.float64)


def test_share_of_differing_bits_is_the_paper_s_function_of_the_kernel():
    k = 40_000
    method = SKLSH(8, k, gamma=0.3).double().fit(FEATURES)
    bits = method(FEATURES[:40]).detach() >= 0
    squared = (FEATURES[:40, None] - FEATURES[None, :40]).square().sum(2)
    scale = torch.linspace(0.05, 1, 40, dtype=torch.float64)
    near = FEATURES[:1] + scale[:, None] * (FEATURES[1:2] - FEATURES[:1])
    pairs = [(bits[:1], bits, squared[0]), (bits[:1], method(near) >= 0, (near - FEATURES[0]).square().sum(1))]
    for one, other, distance in pairs:
        share = (one != other).double().mean(1)
        expected = expected_hamming_share(torch.exp(-0.3 * distance / 2))
        assert float((share - expected).abs().max()) < 4 * 0.5 / math.sqrt(k)
        assert float(share.max() - share.min()) > 0.2


def test_series_at_its_ends_and_between_the_paper_s_bounds():
    kernel = torch.linspace(0, 1, 101, dtype=torch.float64)
    share = expected_hamming_share(kernel, terms=20_000)
    assert float(share[-1]) == 0
    assert float(share[0]) == pytest.approx(4 / math.pi**2, abs=2e-5)
    assert bool((share.diff() <= 0).all())
    # Lemma 2.3 of the paper.
    assert bool((share >= 4 / math.pi**2 * (1 - kernel) - 2e-5).all())
    upper = torch.minimum(0.5 * (1 - kernel).sqrt(), 4 / math.pi**2 * (1 - 2 * kernel / 3))
    assert bool((share <= upper + 1e-5).all())


def test_width_is_the_distance_to_the_fiftieth_neighbour():
    x = FEATURES.numpy()
    distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    expected = np.sort(distances, 1)[:, 50].mean()
    method = SKLSH(8, 4).fit(FEATURES.float())
    assert float(method.width) == pytest.approx(expected, rel=1e-6)
    assert float(SKLSH(8, 4).fit(10 * FEATURES.float()).width) == pytest.approx(10 * expected, rel=1e-6)


def test_parameters_are_drawn_as_the_paper_draws_them():
    method = SKLSH(8, 50_000, gamma=4.0).double().fit(FEATURES)
    assert float(method.directions.detach().std()) == pytest.approx(2, rel=0.01)
    assert float(method.directions.detach().mean()) == pytest.approx(0, abs=0.02)
    for name, low, high in (("phases", 0, 2 * math.pi), ("heights", -1, 1)):
        drawn = getattr(method, name).detach()
        assert low <= float(drawn.min()) < low + 0.01
        assert high - 0.01 < float(drawn.max()) <= high
        assert float(drawn.mean()) == pytest.approx((low + high) / 2, abs=0.03)


def test_data_far_from_the_origin_keep_their_digits():
    double = SKLSH(8, 16, gamma=1.0).double().fit(FEATURES)(FEATURES)
    moved = FEATURES + 4096
    single = SKLSH(8, 16, gamma=1.0).fit(moved.float())(moved.float())
    assert torch.allclose(single.double(), double, atol=0.02)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="neighbour=0; expected a whole number"):
        SKLSH(8, 4, neighbour=0)
    with pytest.raises(InvalidInputError, match="gamma=-1; expected a finite number above 0"):
        SKLSH(8, 4, gamma=-1)
    with pytest.raises(InvalidInputError, match="lie at distance 0 from their 50 nearest neighbours"):
        SKLSH(8, 4).fit(FEATURES[:1].expand(60, 8))


@pytest.mark.data
def test_figures_on_real_features(cifar10_gist):
    """Below LSH at 32 bits, as published, and above it is chance, .1; longer codes follow the kernel better."""
    features, labels, _ = cifar10_gist
    order = torch.randperm(len(features), generator=generator())
    query, database = order[:500], order[500:15500]
    relevance = SharedLabel(labels[query], labels[database])

    def score(projection):
        hasher = Hasher(projection, SBQ(projection.output_dim)).fit(features[database])
        counts = AutoEngine().rank(
            hasher.encode(features[query]), hasher.encode(features[database]), hasher.distance, relevance
        )
        return float(average_precision(counts).mean())

    short, long = score(SKLSH(512, 32)), score(SKLSH(512, 256))
    assert 0.105 < short < score(LSH(512, 32))
    assert long > short + 0.01
