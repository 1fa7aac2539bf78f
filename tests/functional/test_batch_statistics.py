"""Statistics of batch normalisations."""

import pytest
import torch
from torch import nn

from deephash.functional.batch_statistics import measure_batch_statistics, random_batches


def test_statistics_are_the_averages_over_batches():
    features = 3 + 2 * torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(5), nn.ReLU(), nn.BatchNorm1d(5, momentum=0.3))
    network[0].eval()
    network[1].running_mean.fill_(7)
    measure_batch_statistics(network, features.split(20))
    means = torch.stack([batch.mean(0) for batch in features.split(20)])
    variances = torch.stack([batch.var(0) for batch in features.split(20)])
    assert torch.allclose(network[1].running_mean, means.mean(0))
    assert torch.allclose(network[1].running_var, variances.mean(0))
    normal = torch.cat([nn.functional.batch_norm(batch, None, None, training=True) for batch in features.split(20)])
    assert torch.allclose(network[3].running_mean, normal.relu().mean(0), atol=1e-5)
    assert [layer.training for layer in network] == [False, True, True, True]
    assert (network[1].momentum, network[3].momentum) == (0.1, 0.3)


def test_a_network_without_any_is_left_alone():
    def never():
        raise AssertionError("no batch is needed")
        yield

    measure_batch_statistics(nn.Linear(2, 2), never())


@pytest.mark.parametrize(("n", "count", "sizes"), [(10, 20, [4, 4, 2]), (9, 8, [4, 4]), (3, 8, [3]), (5, 8, [3, 2])])
def test_batches_are_distinct_rows(n, count, sizes):
    batches = random_batches(torch.arange(n)[:, None], count, 4, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == sizes
    assert len(torch.cat(batches).unique()) == sum(sizes)
