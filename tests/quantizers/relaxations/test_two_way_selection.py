"""Two-way selection: the softmax over two logits, whatever their sum."""

import torch

from deephash.quantizers.relaxations.two_way_selection import TwoWaySelection, select_by_softmax


def test_it_is_the_difference_of_the_probabilities_of_two_logits():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 8, 2, generator=generator, dtype=torch.float64)
    probabilities = logits.softmax(-1)
    margins = logits[..., 1] - logits[..., 0]
    assert torch.allclose(TwoWaySelection()(margins), probabilities[..., 1] - probabilities[..., 0])
    assert torch.allclose(select_by_softmax(margins), probabilities)
    # After training, the larger logit is selected.
    assert torch.equal(TwoWaySelection()(margins) >= 0, logits.argmax(-1) == 1)
