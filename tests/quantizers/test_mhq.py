"""Manhattan hashing: k-means regions, their numbers in binary, and the distance of the numbers."""

import numpy as np
import pytest
import torch

from deephash.codes import pack
from deephash.quantizers.mhq import MHQ, cluster_thresholds
from deephash.ranking.distance import Manhattan
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError


def test_regions_are_those_of_the_nearest_centre():
    """On projections of several dimensions: the bits spell the number of the nearest k-means centre."""
    from sklearn.cluster import KMeans

    z = torch.randn(500, 3, generator=torch.Generator().manual_seed(3)) * torch.tensor([1.0, 5.0, 0.2])
    quantizer = MHQ(6).fit(z)
    levels = quantizer.quantize(z).view(500, 3, 2).int() @ torch.tensor([1, 2], dtype=torch.int32)
    for j in range(3):
        kmeans = KMeans(4, n_init=30, random_state=0).fit(z[:, j : j + 1].numpy())
        rank = np.argsort(np.argsort(kmeans.cluster_centers_[:, 0]))
        agreement = (rank[kmeans.labels_] == levels[:, j].numpy()).mean()
        # The library's many starts come near the optimum that the quantiser has, not always onto it.
        assert agreement > 0.97


def test_thresholds_of_a_normal_distribution_are_lloyd_s_and_max_s():
    """Max, "Quantizing for minimum distortion", 1960, Table I: 0 and ±0.9816 at four levels; ±0.5006 to ±1.748 at 8."""
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assert cluster_thresholds(values, 4).tolist() == pytest.approx([-0.9816, 0, 0.9816], abs=0.03)
    eight = [0.5006, 1.050, 1.748]
    expected = [-t for t in eight[::-1]] + [0, *eight]
    assert cluster_thresholds(values, 8).tolist() == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("q", [1, 2, 3, 4])
def test_distance_of_codes_is_the_difference_of_regions(q):
    quantizer = MHQ(5 * q, q).fit(torch.randn(300, 5, generator=torch.Generator().manual_seed(q)))
    z = torch.randn(40, 5, generator=torch.Generator().manual_seed(9))
    assert quantizer.distance == Manhattan(5, q)
    regions = (z[:, :, None] >= quantizer.thresholds).sum(-1)
    codes = pack(quantizer.quantize(z))
    distances, ids = TorchEngine().search(codes, codes, quantizer.distance, 40)
    expected = (regions[:, None] - regions[None]).abs().sum(-1)
    assert torch.equal(distances, expected.gather(1, ids))


def test_few_distinct_values_repeat_the_last_threshold():
    assert cluster_thresholds(torch.tensor([3.0, 5.0, 3.0]), 4).tolist() == [4, 4, 4]
    assert cluster_thresholds(torch.tensor([3.0]), 4).tolist() == [3, 3, 3]
    assert MHQ(2).fit(torch.tensor([[3.0], [5.0]])).quantize(torch.tensor([[3.0], [5.0]])).tolist() == [
        [False, False],
        [True, True],
    ]


def test_training_loss_can_move_every_threshold():
    z = torch.linspace(-1, 1, 100)[:, None]
    quantizer = MHQ(3, 3).fit(z)
    (quantizer(z) * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    assert bool((quantizer.thresholds.grad != 0).all())


def test_refuses_bad_lengths():
    with pytest.raises(
        InvalidInputError, match="bits=32 is not a multiple of the 3 bits per projection; give 30 or 33"
    ):
        MHQ(32, 3)
    for bad in (0, 9, 2.0, True):
        with pytest.raises(InvalidInputError, match=f"bits={bad!r}"):
            MHQ(36, bad)
