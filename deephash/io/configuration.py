"""Where the YAML files lie: beside the package in a clone, inside it where a wheel was installed."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def configuration_folder() -> str:
    """The folder of `train.yaml` and the groups of choices.

    Raises:
        RuntimeError: an installation without them.
    """
    for folder in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise RuntimeError(f"deephash in {PACKAGE} lacks its configuration files; install it again.")
