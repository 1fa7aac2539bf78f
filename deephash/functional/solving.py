"""One-line errors for fits whose equations have no solution, instead of a solver's traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from deephash.conversion import shorten_error
from deephash.validation import InvalidInputError

ADVICE = "standardise the features, drop those that are constant or repeat each other, or give more items"


@contextmanager
def shorten_solver_errors(method: str, items: int) -> Iterator[None]:
    """Turn the errors of a fit's solver into one line.

    Args:
        method: name of the fitted class.
        items: number of training items, for the message.

    Raises:
        InvalidInputError: a decomposition does not converge, or its matrix is not positive definite.
    """
    try:
        yield
    except (torch.linalg.LinAlgError, np.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        raise InvalidInputError(
            f"{method} finds no solution for these {items} training items ({shorten_error(error)}); {ADVICE}."
        ) from error


def check_learnt(module: nn.Module, method: str, items: int) -> None:
    """Raise an error for weights that contain NaN.

    Args:
        module: the fitted module.
        method: name of its class.
        items: number of training items, for the message.

    Raises:
        InvalidInputError: a weight contains NaN.
    """
    for name, weight in module.state_dict().items():
        if weight.is_floating_point() and bool(weight.isnan().any()):
            raise InvalidInputError(
                f"{method} finds no solution for these {items} training items: {name} would contain NaN; {ADVICE}."
            )
