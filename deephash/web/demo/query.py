"""What is asked: an item of the run's data, an image or a text, as a code with its margins."""

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
from deephash.web.demo.decoding import decoded_image
from deephash.web.demo.served_run import ServedRun

IMAGE, TEXT = "image", "text"
MAX_LETTERS = 10_000


@final
@dataclass(frozen=True)
class Query:
    """A query as codes are asked.

    Args:
        view: that asks; the only one has no name.
        code: packed uint8 (1, ⌈b/8⌉), on the CPU.
        margins: floating (b,), each bit's distance from its threshold, which gives it its sign; None where bits have
            no threshold of their own.
        row: of the item in the data set; None where it is none.
    """

    view: str
    code: Tensor
    margins: Tensor | None
    row: int | None = None


def item_query(run: ServedRun, row: int, view: str) -> Query:
    """An item of the data set, by one of its views.

    Raises:
        InvalidInputError: no such view or item, or one that lacks the view.
    """
    check_choice(view, get_views(run.hasher), "view")
    if not 0 <= row < len(run.items):
        raise InvalidInputError(f"row={row}; the data have the items 0 to {len(run.items) - 1}.")
    features = run.items.features
    if isinstance(features, Views):
        if not bool(features.present[view][row]):
            raise InvalidInputError(f"item {row} has no {view}; ask with another item, or by its other view.")
        features = features.features[view]
    return coded_query(run, features[row : row + 1], view, row)


def image_query(run: ServedRun, contents: bytes) -> Query:
    """An image file, described as the run's own images were.

    Raises:
        InvalidInputError: a run whose features are not made from images, or no image that can be decoded.
    """
    descriptor = image_descriptor(run.folder)
    image = decoded_image(contents, image_side(run, descriptor))
    return coded_query(run, descriptor.describe(image[None]), view_of(run, IMAGE))


def text_query(run: ServedRun, text: str) -> Query:
    """A text, described as the run's own texts were.

    Raises:
        InvalidInputError: a run whose features are not made from texts, an empty text or a very long one.
    """
    descriptor = text_descriptor(run.folder)
    if not text.strip() or len(text) > MAX_LETTERS:
        raise InvalidInputError(f"The text has {len(text)} letters; type some words, at most {MAX_LETTERS} letters.")
    return coded_query(run, descriptor.describe([text]), view_of(run, TEXT))


def coded_query(run: ServedRun, features: Tensor, view: str, row: int | None = None) -> Query:
    """Features (1, d) of a view as a query."""
    hasher = get_views(run.hasher)[view]
    check_dimension(features.shape[1], hasher)
    features = features.to(run.device)
    return Query(view, hasher.encode(features).cpu(), margins(hasher, features), row)


def margins(hasher: Hasher, features: Tensor) -> Tensor | None:
    """Distances of one item's projections from their thresholds, (b,); None where a projection has several or none."""
    if not isinstance(hasher.quantizer, SBQ):
        return None
    return (hasher.project(features) - hasher.quantizer.thresholds).detach()[0].cpu()


def view_of(run: ServedRun, kind: str) -> str:
    """The view that images, or texts, are of.

    Raises:
        InvalidInputError: a run of other views.
    """
    views = list(get_views(run.hasher))
    if views == [ONE_VIEW]:
        return ONE_VIEW
    if kind not in views:
        raise InvalidInputError(f"The run's views are {' and '.join(views)}, and {kind} is none of them.")
    return kind


def image_side(run: ServedRun, descriptor: Descriptor) -> int:
    """Side in pixels to which an image is scaled for a run: the descriptor's, or that of its own images.

    Raises:
        InvalidInputError: images of which that is not known.
    """
    if descriptor.image_size is not None:
        return descriptor.image_size
    images = run.items.images
    if images is None or images.shape[1] != images.shape[2]:
        raise InvalidInputError("The run's data take images as they are, of a size that an image cannot be scaled to.")
    return int(images.shape[1])


def refusal(run: ServedRun, kind: str) -> str | None:
    """Why a run cannot be asked with images, or with texts, in a sentence; None where it can."""
    try:
        view_of(run, kind)
        if kind == IMAGE:
            image_side(run, image_descriptor(run.folder))
        else:
            text_descriptor(run.folder)
    except NoDescriptorError:
        return (
            f"The features of this run were not made from {kind}s by its data but elsewhere, so that no new {kind} can "
            "be turned into them. Pick one of its own queries."
        )
    except InvalidInputError as error:
        return str(error)
    return None
