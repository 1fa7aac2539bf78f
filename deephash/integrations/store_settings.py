"""Settings of a store of documents, which are saved with it."""

from dataclasses import dataclass
from typing import Any

from deephash.hashers.hasher import Hasher
from deephash.indexes.build_index import index_class
from deephash.indexes.rescoring import MEASURES
from deephash.integrations.vector_format import FLOAT32, FORMATS, NONE
from deephash.ranking.distance import Hamming
from deephash.validation import InvalidInputError, check_bits, check_choice, check_count, check_whole


@dataclass(frozen=True)
class StoreSettings:
    """Settings of a store; each is an argument of `HashedDocuments`, which explains it.

    Raises:
        InvalidInputError: an invalid setting.
    """

    bits: int | None = None
    fit_at: int = 10_000
    vectors: str = FLOAT32
    measure: str = "cosine"
    candidates: int = 200
    kind: str = "flat"

    def __post_init__(self) -> None:
        if self.bits is not None:
            check_bits(self.bits)
        check_whole(self.fit_at, 2, "fit_at")
        check_choice(self.vectors, FORMATS, "vectors")
        check_choice(self.measure, MEASURES, "measure")
        check_count(self.candidates, "candidates")
        if self.vectors == NONE and self.measure != "cosine":
            raise InvalidInputError(
                f"measure={self.measure!r} needs stored embeddings; give vectors='int8' or more, or measure='cosine'."
            )
        if not index_class(self.kind).takes_changes:
            raise InvalidInputError(f"kind={self.kind!r} takes no changes; use flat or mih.")

    @property
    def stored_format(self) -> str:
        """Format of stored vectors; a store that drops vectors needs them until a hasher is fitted."""
        return FLOAT32 if self.vectors == NONE else self.vectors


def check_hasher(hasher: Any) -> None:
    """Raise an error unless a hasher is fitted, and its codes are ranked by Hamming distance."""
    if not isinstance(hasher, Hasher):
        raise InvalidInputError(f"hasher is a {type(hasher).__name__}; expected a fitted deephash.Hasher.")
    hasher.check_fitted()
    if not isinstance(hasher.distance, Hamming):
        raise InvalidInputError(
            f"the hasher's codes are ranked by {type(hasher.distance).__name__}; give one with independent bits, such "
            "as SBQ."
        )
