"""Each error sentence, with what was given, what was expected, and one line."""

import numpy as np
import pytest
import torch

from deephash import validation
from deephash.validation import InvalidInputError

NAN, INFINITY = float("nan"), float("inf")

REFUSED = [
    (validation.as_features, ("abc",), "features are a str; give a torch.Tensor, an array or nested lists."),
    (validation.as_features, (torch.zeros(3),), "features have shape (3,); expected two axes, (n, d)."),
    (validation.as_features, (torch.zeros(2, 3, 4),), "features have shape (2, 3, 4); expected two axes, (n, d)."),
    (
        validation.as_features,
        (torch.zeros(2, 3, dtype=torch.complex64),),
        "features have dtype torch.complex64; expected real numbers.",
    ),
    (validation.as_features, (torch.zeros(2, 0),), "features have shape (2, 0); expected at least one dimension."),
    (
        validation.as_features,
        (torch.zeros(2, 3), 4),
        "features have 3 dimensions; expected 4, the number this was built for.",
    ),
    (validation.as_features, (torch.zeros(1, 3), 3, 2), "features have 1 rows; expected at least 2."),
    (
        validation.as_features,
        (torch.tensor([[0.0], [NAN], [INFINITY]]), 1, 0, "queries"),
        "queries contain NaN or infinity in 2 of 3 rows, the first at row 1; remove or repair those rows.",
    ),
    (
        validation.check_finite,
        (torch.tensor([[INFINITY, -INFINITY]]),),
        "features contain NaN or infinity in 1 of 1 rows, the first at row 0; remove or repair those rows.",
    ),
    (
        validation.as_labels,
        (np.array(["cat", "dog"]), 2),
        "labels are of dtype <U3; give numbers, as a torch.Tensor or an array.",
    ),
    (
        validation.as_labels,
        (torch.zeros(2), 2),
        "labels have shape (2,) and dtype torch.float32; expected class indices int64 (n,) or a multi-label indicator "
        "bool (n, c).",
    ),
    (
        validation.as_labels,
        (torch.zeros(2, dtype=torch.int64), 3),
        "labels have 2 rows; expected 3, one for each item.",
    ),
    (
        validation.as_labels,
        (torch.zeros(2, 5, dtype=torch.bool), 3),
        "labels have 2 rows; expected 3, one for each item.",
    ),
    (validation.as_labels, (torch.tensor([1, -1]), 2), "labels contain -1; class indices start at 0."),
    (validation.check_bits, (0,), "bits=0; expected a whole number of at least 1."),
    (validation.check_bits, (8.0,), "bits=8.0; expected a whole number of at least 1."),
    (validation.check_bits, (True,), "bits=True; expected a whole number of at least 1."),
    (validation.check_bits, ("64",), "bits='64'; expected a whole number of at least 1."),
    (
        validation.check_bits,
        (9, 8, "the most a dimension can have"),
        "bits=9 exceeds 8, the most a dimension can have; lower bits or choose another method.",
    ),
    (validation.check_count, (-3, "rounds"), "rounds=-3; expected a whole number of at least 1."),
    (
        validation.check_directions,
        (128, 64, "PCAH can give for d=64 features"),
        "128 projections exceed the 64 directions PCAH can give for d=64 features; lower bits or choose a quantiser of "
        "several bits per projection.",
    ),
    (validation.check_positive, (0, "clip"), "clip=0; expected a finite number above 0."),
    (validation.check_positive, (NAN, "clip"), "clip=nan; expected a finite number above 0."),
    (validation.check_positive, (INFINITY, "clip"), "clip=inf; expected a finite number above 0."),
    (validation.check_positive, ("1", "clip"), "clip='1'; expected a finite number above 0."),
    (validation.check_fraction, (1.01, "progress"), "progress=1.01; expected a number from 0 to 1."),
    (validation.check_fraction, (NAN, "progress"), "progress=nan; expected a number from 0 to 1."),
    (validation.check_choice, ("l3", ["l1", "l2"], "norm"), "norm='l3'; expected one of: l1, l2."),
]


@pytest.mark.parametrize(("check", "given", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refusal_says_what_was_given_and_what_is_expected(check, given, message):
    with pytest.raises(InvalidInputError) as refusal:
        check(*given)
    assert str(refusal.value) == message
    assert "\n" not in message


ACCEPTED = [
    (validation.as_features, (torch.zeros(0, 3), 3)),
    (validation.as_features, (torch.zeros(2, 3, dtype=torch.float64), 3, 2)),
    (validation.as_features, (torch.full((3, 2), 3e38),)),  # the sum overflows, the values do not
    (validation.as_features, (torch.full((3, 2), 6e4, dtype=torch.float16),)),
    (validation.as_labels, (torch.zeros(0, dtype=torch.int64), 0)),
    (validation.as_labels, (torch.zeros(2, 5, dtype=torch.bool), 2)),
    (validation.check_bits, (1,)),
    (validation.check_bits, (8, 8, "")),
    (validation.check_bits, (np.uint8(8), np.int64(8), "")),
    (validation.check_whole, (np.int32(0), 0, "radius", 3)),
    (validation.check_number, (np.float64(-2.5), "offset")),
    (validation.check_directions, (64, 64, "")),
    (validation.check_positive, (np.float32(0.5), "scale")),
    (validation.check_fraction, (0, "progress")),
    (validation.check_fraction, (1, "progress")),
    (validation.check_choice, ("l1", ["l1", "l2"], "norm")),
]


@pytest.mark.parametrize(("check", "given"), ACCEPTED)
def test_good_input_passes(check, given):
    accepted = check(*given)
    # What converts gives what it was given, where that is good as it is.
    assert accepted is (given[0] if check.__name__.startswith("as_") else None)
