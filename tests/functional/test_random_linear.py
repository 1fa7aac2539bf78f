"""Linear layers from a generator."""

import torch

from deephash.functional.random_linear import random_linear


def test_weights_follow_from_the_generator_and_are_of_torch_s_size():
    given = [random_linear(100, 50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(given[0].weight, given[1].weight)
    assert torch.equal(given[0].bias, given[1].bias)
    assert not torch.equal(given[0].weight, given[2].weight)
    torch.manual_seed(0)
    reference = torch.nn.Linear(100, 50).weight.std()
    assert abs(float(given[0].weight.detach().std() / reference.detach()) - 1) < 0.05
    assert float(given[0].weight.detach().abs().max()) <= 0.1
