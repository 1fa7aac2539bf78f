"""Open a store of documents once per process."""

import weakref
from pathlib import Path
from typing import Any

from deephash.integrations.hashed_documents import HashedDocuments

OPEN_STORES: "weakref.WeakValueDictionary[Path, HashedDocuments]" = weakref.WeakValueDictionary()


def open_documents(folder: str | Path | None = None, **settings: Any) -> HashedDocuments:
    """Open a store, or return the one of the folder that this process has open.

    A cell of a notebook that runs twice opens a folder while the first store still exists.

    Args:
        folder: folder of the store; None for memory alone.
        settings: further arguments of `HashedDocuments`.

    Raises:
        InvalidInputError: as `HashedDocuments`.
    """
    if folder is None:
        return HashedDocuments(None, **settings)
    place = Path(folder).resolve()
    held = OPEN_STORES.get(place)
    if held is not None and held.is_open:
        hasher = settings.pop("hasher", None)
        held.check_given(settings, hasher)
        return held
    store = HashedDocuments(folder, **settings)
    OPEN_STORES[place] = store
    return store
