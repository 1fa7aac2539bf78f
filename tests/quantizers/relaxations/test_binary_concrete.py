"""Binary concrete neurons: probabilities, the temperature, and the gradient of a draw."""

import math

import pytest
import torch

from deephash.quantizers.relaxations.binary_concrete import BinaryConcrete
from deephash.validation import InvalidInputError

DRAWS = 40_000
MARGINS = torch.tensor([-2.0, -0.5, 0.0, 0.3, 1.5])


def drawn(relaxation, margins=MARGINS):
    torch.manual_seed(0)
    return relaxation(margins.expand(DRAWS, len(margins)))


@pytest.mark.parametrize("progress", [0, 1])
@pytest.mark.parametrize("hard", [False, True])
def test_a_bit_is_1_with_the_sigmoid_s_probability(progress, hard):
    relaxation = BinaryConcrete(hard=hard)
    relaxation.set_progress(progress)
    ones = (drawn(relaxation) >= 0).double().mean(0)
    for share, margin in zip(ones.tolist(), MARGINS.tolist(), strict=True):
        chance = 1 / (1 + math.exp(-margin))
        # Five standard errors.
        assert abs(share - chance) < 5 * math.sqrt(chance * (1 - chance) / DRAWS)


def test_values_near_the_bits_as_it_cools():
    relaxation = BinaryConcrete(1.0, 0.05)
    gaps = []
    for progress in (0, 0.5, 1):
        relaxation.set_progress(progress)
        gaps.append(float((1 - drawn(relaxation).abs()).mean()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.05


@pytest.mark.parametrize(("progress", "temperature"), [(0, 2.0), (0.5, 1.0), (1, 0.5)])
def test_a_draw_is_its_formula(progress, temperature):
    """The uniform numbers drawn again, and the formula of the concrete distribution on each."""
    relaxation = BinaryConcrete(2.0, 0.5)
    relaxation.set_progress(progress)
    margins = MARGINS.double().requires_grad_()
    torch.manual_seed(3)
    relaxed = relaxation(margins)
    relaxed.sum().backward()
    torch.manual_seed(3)
    uniform = torch.rand(5, dtype=torch.float64)
    for i, (margin, u) in enumerate(zip(MARGINS.double().tolist(), uniform.tolist(), strict=True)):
        share = 1 / (1 + math.exp(-(margin + math.log(u) - math.log(1 - u)) / temperature))
        assert float(relaxed.detach()[i]) == pytest.approx(2 * share - 1)
        assert float(margins.grad[i]) == pytest.approx(2 * share * (1 - share) / temperature)


def test_hard_draws_have_the_gradient_of_the_relaxed_ones():
    gradients, values = [], []
    for hard in (False, True):
        margins = MARGINS.clone().requires_grad_()
        torch.manual_seed(1)
        relaxed = BinaryConcrete(hard=hard)(margins)
        relaxed.sum().backward()
        values.append(relaxed.detach())
        gradients.append(margins.grad)
    assert torch.equal(values[1], torch.where(values[0] >= 0, 1.0, -1.0))
    assert torch.equal(*gradients)


def test_bits_are_hard_in_evaluation_mode():
    assert BinaryConcrete().eval()(MARGINS).tolist() == [-1, -1, 1, 1, 1]


def test_bad_temperatures_are_refused():
    with pytest.raises(InvalidInputError, match="initial_temperature=0; expected a finite number above 0"):
        BinaryConcrete(initial_temperature=0)
    with pytest.raises(InvalidInputError, match="final_temperature=-1; expected a finite number above 0"):
        BinaryConcrete(final_temperature=-1)
    with pytest.raises(InvalidInputError, match=r"final_temperature=2.0 is above initial_temperature=1.0; a contin"):
        BinaryConcrete(1.0, 2.0)
