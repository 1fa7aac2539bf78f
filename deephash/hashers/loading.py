"""Loading what a run saved, whichever kind of hasher it is."""

from pathlib import Path

from deephash.hashers import storage
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher


def load(folder: str | Path) -> Hasher | CrossModalHasher:
    """The hasher in a run's folder, or in a folder that `save` wrote.

    Args:
        folder: the folder of a run of train.py, or of a hasher.

    Returns:
        A `Hasher`, or the `CrossModalHasher` of two views, on the CPU.

    Raises:
        InvalidInputError: missing or damaged files, another format version, an unknown class, or contents that do not
            match their identity.
    """
    path = Path(folder)
    if not (path / storage.DESCRIPTION_FILE).exists() and (path / "hasher").is_dir():
        path = path / "hasher"
    description, weights = storage.read(path)
    if "quantizers" in description:
        return storage.restore(CrossModalHasher.build, description, weights, path)
    return storage.restore(Hasher.build, description, weights, path)
