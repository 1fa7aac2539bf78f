"""Load the hasher of one view from a run, onto a device."""

from pathlib import Path

import torch

from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.hashers.loading import load
from deephash.validation import InvalidInputError, check_choice


def load_view(run: str | Path, view: str | None = None, device: str = "cpu") -> tuple[Hasher, str, str]:
    """Load the hasher that encodes items of one view.

    Args:
        run: folder of a run or hasher.
        view: view of a hasher of two views; None for a hasher of one.
        device: device to compute on; auto uses a GPU if there is one.

    Returns:
        The hasher of the view, the identity of the whole hasher, and the view (empty for a hasher of one).

    Raises:
        InvalidInputError: no hasher in the folder, a missing or unknown view, or an unknown device.
    """
    loaded = load(run)
    hasher, name = loaded, ""
    if isinstance(loaded, CrossModalHasher):
        views = list(loaded.views)
        if view is None:
            raise InvalidInputError(f"{run} holds a hasher of {len(views)} views; name one: --view {views[0]}.")
        check_choice(view, views, "view")
        hasher, name = loaded.view(view), view
    elif view is not None:
        raise InvalidInputError(f"{run} holds a hasher of one view; leave --view {view} out.")
    assert isinstance(hasher, Hasher)
    return hasher.to(find_device(device)), loaded.identity, name


def find_device(name: str) -> torch.device:
    """Return a device by its name; auto is a GPU if there is one.

    Raises:
        InvalidInputError: an unknown device.
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
