"""Online MIHash: its gradient is that of the mutual information, and steps raise it."""

import numpy as np
import torch

from deephash.functional.soft_histogram import soft_histogram
from deephash.losses.mihash import mutual_information
from deephash.projections.online.online_mihash import OnlineMIHash, information_gradient

GENERATOR = torch.Generator().manual_seed(0)


def codes(n, k=12):
    return torch.tanh(torch.randn(n, k, generator=GENERATOR, dtype=torch.float64))


def information(code, held, neighbours, bins):
    distances = ((held.shape[1] - held @ code) / 2)[None]
    k = held.shape[1]
    return mutual_information(
        soft_histogram(distances, neighbours[None], k, bins), soft_histogram(distances, ~neighbours[None], k, bins)
    ).sum()


def test_gradient_is_that_of_the_information():
    held, neighbours = codes(60), torch.rand(60, generator=GENERATOR) < 0.3
    for bins in (2, 9, 17):
        code = codes(1)[0].requires_grad_()
        information(code, held, neighbours, bins).backward()
        assert torch.allclose(information_gradient(code.detach(), held, neighbours, bins), code.grad, atol=1e-9)


def numpy_information(distances, neighbours, k, bins):
    """Entropies of a triangular histogram, by their definition."""
    centres = np.linspace(0, k, bins)
    width = centres[1]
    pulse = np.maximum(0, 1 - abs(distances[:, None] - centres) / width)

    def entropy(p):
        p = p[p > 0]
        return -(p * np.log(p)).sum()

    share = neighbours.mean()
    given = share * entropy(pulse[neighbours].mean(0)) + (1 - share) * entropy(pulse[~neighbours].mean(0))
    return entropy(pulse.mean(0)) - given


def test_gradient_is_the_slope_of_a_plain_version():
    held, code, neighbours = codes(60), codes(1)[0], torch.rand(60, generator=GENERATOR) < 0.3
    gradient = information_gradient(code, held, neighbours, 17)

    def value(c):
        return numpy_information(((12 - held @ c) / 2).numpy(), neighbours.numpy(), 12, 17)

    step = torch.zeros(12, dtype=torch.float64)
    for j in range(12):
        step.zero_()[j] = 1e-7
        slope = (value(code + step) - value(code - step)) / 2e-7
        assert abs(slope - float(gradient[j])) < 1e-5


def test_learning_raises_the_information_of_distances_on_neighbours():
    labels = torch.randint(3, (900,), generator=GENERATOR)
    centres = torch.randn(3, 20, generator=GENERATOR)
    features = centres[labels] + torch.randn(900, 20, generator=GENERATOR) * torch.linspace(0.5, 3, 20)
    projection = OnlineMIHash(20, 16)

    def mean_information():
        hard = torch.where(projection(features[:300]) >= 0, 1.0, -1.0).double()
        return float(
            torch.stack(
                [information(c, hard, y == labels[:300], 17) for c, y in zip(hard[:60], labels, strict=False)]
            ).mean()
        )

    projection.partial_fit(features[:10], labels[:10])
    start = mean_information()
    projection.partial_fit(features[300:], labels[300:])
    assert mean_information() > 1.3 * start


def test_the_reservoir_holds_labels_of_its_items():
    features, labels = torch.randn(500, 6, generator=GENERATOR), torch.randint(5, (500,), generator=GENERATOR)
    projection = OnlineMIHash(6, 8, capacity=40)
    for rows in torch.arange(500).split(100):
        projection.partial_fit(features[rows], labels[rows])
    unit = torch.nn.functional.normalize(features - projection.mean)
    for item, own in zip(projection.sample, projection.sample_labels, strict=True):
        (row,) = (unit - item).abs().sum(1).lt(1e-4).nonzero().flatten().tolist()
        assert own.nonzero().flatten().tolist() == [int(labels[row])]
