"""Loading of saved hashers of one view or two."""

from pathlib import Path

from deephash.hashers import storage
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher


def load(folder: str | Path) -> Hasher | CrossModalHasher:
    """Load the hasher of a run's folder, or of a folder that `save` or `save_pretrained` wrote, onto the CPU.

    Args:
        folder: the folder of a run of train.py, or of a hasher.

    Returns:
        A `Hasher`, or a `CrossModalHasher` of two views.

    Raises:
        InvalidInputError: a file is missing or damaged, the format version or a class is unknown, or the contents do
            not match their identity.
    """
    path = Path(folder)
    if not storage.find_files(path)[0].exists() and (path / "hasher").is_dir():
        path = path / "hasher"
    description, weights = storage.read(path)
    if "quantizers" in description:
        return storage.restore(CrossModalHasher.build, description, weights, path)
    return storage.restore(Hasher.build, description, weights, path)
