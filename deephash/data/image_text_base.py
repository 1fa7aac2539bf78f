"""The base class of published data sets of images and texts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from deephash.data.base import HashingDataModule
from deephash.data.protocols.base import Protocol, Split
from deephash.data.views import Views
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError, check_choice

VIEWS = ("image", "text")


class ImageTextData(HashingDataModule):
    """Pairs of an image and a text, read from the publisher's files.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: folder of the publisher's files.
        view: "image" or "text" for only that view; None for both.
        cache: folder of computed features.

    Raises:
        InvalidInputError: no path, or an unknown view.
    """

    title: ClassVar[str]
    """Name of the data set in messages."""

    layout: ClassVar[str]
    """Files that the folder must contain, for messages."""

    def __init__(
        self, protocol: Protocol, seed: int, split: Split | None, path: str, view: str | None, cache: FilePath
    ) -> None:
        super().__init__(protocol, seed, split)
        if not path:
            raise InvalidInputError(
                f"path={path!r}; give the folder of {self.title}: data.path=FOLDER with {self.layout}."
            )
        if view is not None:
            check_choice(view, VIEWS, "view")
        self.path = Path(path).expanduser()
        self.view = view
        self.cache = Path(cache).expanduser()

    def prepare_data(self) -> None:
        """Compute the features once."""
        if not self.is_read:
            self.load()

    def _select_view(self, features: Mapping[str, Tensor], computed_from: Mapping[str, str]) -> dict[str, Any]:
        """Return the `features` and `computed_from` of `Items`, for both views or the chosen one."""
        if self.view is None:
            return {"features": Views(features), "computed_from": computed_from}
        digests = {"": computed_from[self.view]} if self.view in computed_from else {}
        return {"features": features[self.view], "computed_from": digests}


def read_lines(path: Path, layout: str, encoding: str = "utf-8") -> list[str]:
    """Read the lines of a text file that are not empty, without surrounding white space.

    Raises:
        InvalidInputError: an unreadable file; the message has the layout of the folder.
    """
    try:
        lines = path.read_text(encoding=encoding, errors="replace").splitlines()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read ({error.strerror}); the layout is {layout}.") from error
    return [line.strip() for line in lines if line.strip()]
