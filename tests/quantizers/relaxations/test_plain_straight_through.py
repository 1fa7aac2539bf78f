"""The straight-through estimator without clipping, and GreedyHash's layer, which is the same."""

import torch
from hydra.utils import instantiate

from deephash.quantizers.relaxations.plain_straight_through import PlainStraightThrough


def test_gradient_passes_however_far_the_margin_is():
    margins = torch.tensor([-1e6, -3.0, -0.5, -0.0, 0.0, 2.0, 1e6], requires_grad=True)
    relaxed = PlainStraightThrough()(margins)
    assert relaxed.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    (relaxed * torch.arange(1.0, 8.0)).sum().backward()
    assert margins.grad.tolist() == list(range(1, 8))


def test_a_step_of_descent_is_greedy_hash_s_update():
    """Eq. 8 of GreedyHash: B = sgn(H - lr · ∂L/∂B), by which bits change sides."""
    margins = torch.tensor([0.2, -0.1, 0.3, -0.4], requires_grad=True)
    slopes = torch.tensor([1.0, -1.0, -1.0, 1.0])
    optimizer = torch.optim.SGD([margins], lr=0.5)
    before = margins.detach().clone()
    (PlainStraightThrough()(margins) * slopes).sum().backward()
    optimizer.step()
    expected = [1.0 if h - 0.5 * s >= 0 else -1.0 for h, s in zip(before.tolist(), slopes.tolist(), strict=True)]
    assert PlainStraightThrough()(margins).tolist() == expected == [-1, 1, 1, -1]


def test_greedy_names_it(compose_config):
    assert isinstance(instantiate(compose_config("relaxation=greedy").relaxation), PlainStraightThrough)
