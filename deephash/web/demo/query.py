"""Queries of the demo: an item of the data, an image or a text, as a code with margins."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from deephash.code_files.encode_file import check_dimension
from deephash.code_files.run_descriptors import NoDescriptorError, image_descriptor, text_descriptor
from deephash.data.descriptors.base import Descriptor
from deephash.data.views import Views
from deephash.hashers.hasher import Hasher
from deephash.hashers.hasher_views import ONE_VIEW, get_views
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError, check_choice
from deephash.web.demo.decoding import decode_image
from deephash.web.demo.served_run import ServedRun

IMAGE, TEXT = "image", "text"
MAX_CHARACTERS = 10_000


@final
@dataclass(frozen=True)
class Query:
    """An encoded query.

    Args:
        view: the query view; empty for runs of one view.
        code: packed uint8 (1, ⌈b/8⌉), on the CPU.
        margins: floating (b,), signed distance of each bit's projection from its threshold; None if bits have no
            thresholds of their own.
        row: row of the item in the data set; None for other queries.
    """

    view: str
    code: Tensor
    margins: Tensor | None
    row: int | None = None


def encode_item(run: ServedRun, row: int, view: str) -> Query:
    """Encode a view of an item of the data set.

    Raises:
        InvalidInputError: there is no such view or item, or the item lacks the view.
    """
    check_choice(view, get_views(run.hasher), "view")
    if not 0 <= row < len(run.items):
        raise InvalidInputError(f"row={row}; the data have the items 0 to {len(run.items) - 1}.")
    features = run.items.features
    if isinstance(features, Views):
        if not bool(features.present[view][row]):
            raise InvalidInputError(f"item {row} has no {view}; choose another item, or its other view.")
        features = features.features[view]
    return encode_features(run, features[row : row + 1], view, row)


def encode_image(run: ServedRun, contents: bytes) -> Query:
    """Encode an image file, described in the same way as the images of the run.

    Raises:
        InvalidInputError: the features of the run are not made from images, or the image cannot be decoded.
    """
    descriptor = image_descriptor(run.folder)
    side = get_image_side(run, descriptor)
    image = decode_image(contents, side, descriptor.interpolation, descriptor.resize)
    return encode_features(run, descriptor.describe(image[None]), find_view(run, IMAGE))


def encode_text(run: ServedRun, text: str) -> Query:
    """Encode a text, described in the same way as the texts of the run.

    Raises:
        InvalidInputError: the features of the run are not made from texts, or the text is empty or too long.
    """
    descriptor = text_descriptor(run.folder)
    if not text.strip() or len(text) > MAX_CHARACTERS:
        raise InvalidInputError(f"The text has {len(text)} characters; type at most {MAX_CHARACTERS} characters.")
    return encode_features(run, descriptor.describe([text]), find_view(run, TEXT))


def encode_features(run: ServedRun, features: Tensor, view: str, row: int | None = None) -> Query:
    """Encode features (1, d) of a view as a query."""
    hasher = get_views(run.hasher)[view]
    check_dimension(features.shape[1], hasher)
    features = features.to(run.device)
    return Query(view, hasher.encode(features).cpu(), compute_margins(hasher, features), row)


def compute_margins(hasher: Hasher, features: Tensor) -> Tensor | None:
    """Return distances (b,) of projections from their thresholds; None unless each projection has one threshold."""
    if not isinstance(hasher.quantizer, SBQ):
        return None
    return (hasher.project(features) - hasher.quantizer.thresholds).detach()[0].cpu()


def find_view(run: ServedRun, kind: str) -> str:
    """Return the view of images or texts.

    Raises:
        InvalidInputError: the run has other views.
    """
    views = list(get_views(run.hasher))
    if views == [ONE_VIEW]:
        return ONE_VIEW
    if kind not in views:
        raise InvalidInputError(f"The run has the views {' and '.join(views)}, not {kind}.")
    return kind


def get_image_side(run: ServedRun, descriptor: Descriptor) -> int:
    """Return the side in pixels to which images are scaled, from the descriptor or the run's own images.

    Raises:
        InvalidInputError: the side is unknown.
    """
    if descriptor.image_size is not None:
        return descriptor.image_size
    images = run.items.images
    if images is None or images.shape[1] != images.shape[2]:
        raise InvalidInputError("The data of this run have images of a size to which an image cannot be scaled.")
    return int(images.shape[1])


def explain_refusal(run: ServedRun, kind: str) -> str | None:
    """Explain in one sentence why a run accepts no images, or texts, as queries; None if it accepts them."""
    try:
        find_view(run, kind)
        if kind == IMAGE:
            get_image_side(run, image_descriptor(run.folder))
        else:
            text_descriptor(run.folder)
    except NoDescriptorError:
        return (
            f"The features of this run were not made from {kind}s by its data, so a new {kind} cannot be encoded. Pick "
            "one of its own queries."
        )
    except InvalidInputError as error:
        return str(error)
    return None
