"""Optional packages of search engines, imported when an index needs them."""

from importlib import import_module
from typing import Any

from deephash.validation import InvalidInputError


def import_engine(module: str, extra: str) -> Any:
    """Import an engine's module.

    Args:
        module: name of the module, such as lancedb.
        extra: the extra of deephash that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InvalidInputError(
            f"kind={extra} needs the package {module.partition('.')[0]} ({error}); pip install 'deephash[{extra}]'."
        ) from error
