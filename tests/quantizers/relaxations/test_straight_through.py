"""The clipped straight-through estimator."""

import pytest
import torch

from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.validation import InvalidInputError

MARGINS = [-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]


@pytest.mark.parametrize(("clip", "passes"), [(1.0, [0, 1, 1, 1, 1, 1, 0]), (0.5, [0, 0, 1, 1, 1, 0, 0])])
def test_hard_forward_and_clipped_identity_backward(clip, passes):
    margins = torch.tensor(MARGINS, requires_grad=True)
    relaxed = StraightThrough(clip)(margins)
    assert relaxed.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    (relaxed * torch.arange(1.0, 8.0)).sum().backward()
    assert margins.grad.tolist() == [factor * allowed for factor, allowed in zip(range(1, 8), passes, strict=True)]


@pytest.mark.parametrize("clip", [0, -1, float("nan"), "1"])
def test_bad_clip_is_refused(clip):
    with pytest.raises(InvalidInputError, match=f"clip={clip!r}; expected a finite number above 0"):
        StraightThrough(clip)
