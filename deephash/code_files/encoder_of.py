"""The hasher of one view that a run holds, on a device."""

from pathlib import Path

import torch

from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.hashers.loading import load
from deephash.validation import InvalidInputError, check_choice


def load_view(run: str | Path, view: str | None = None, device: str = "cpu") -> tuple[Hasher, str, str]:
    """The hasher that encodes items of one view.

    Args:
        run: folder of a run or hasher.
        view: of a hasher of two views; None where there is one.
        device: where to compute; auto takes a GPU where there is one.

    Returns:
        The hasher of the view, the identity of the whole hasher, and the view, empty where there is one.

    Raises:
        InvalidInputError: no hasher there, a view that it does not have, none named of two, or no such device.
    """
    whole = load(run)
    hasher, name = whole, ""
    if isinstance(whole, CrossModalHasher):
        views = list(whole.views)
        if view is None:
            raise InvalidInputError(f"{run} holds a hasher of {len(views)} views; name one: --view {views[0]}.")
        check_choice(view, views, "view")
        hasher, name = whole.view(view), view
    elif view is not None:
        raise InvalidInputError(f"{run} holds a hasher of one view; leave --view {view} out.")
    assert isinstance(hasher, Hasher)
    return hasher.to(chosen_device(device)), whole.identity, name


def chosen_device(name: str) -> torch.device:
    """A device by its name; auto is a GPU where there is one.

    Raises:
        InvalidInputError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"device={name!r} cannot be used ({reason}); give cpu, cuda or auto.") from error
    return device
