"""Counts of hashed words as features, without a vocabulary, a model or a download."""

import math
from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from deephash.data.text_descriptors.base import TextDescriptor, check_texts
from deephash.validation import InvalidInputError, check_choice, check_count

STOP_WORDS = ("english",)


@final
class HashedWords(TextDescriptor):
    """Word counts of a text, each word hashed to one of `dimension` buckets: the baseline descriptor.

    The value of a word is log(1 + occurrences) with a sign from its hash, so that words in the same bucket cancel on
    average. Each text is then scaled to length 1.

    Known weakness: synonyms have unrelated features.

    Args:
        dimension: number of buckets d. For captions, with a few thousand words, 1,024 give few collisions per text.
        stop_words: "english" leaves out the most common English words; None keeps all.

    Raises:
        InvalidInputError: a dimension below 1, or unknown stop words.

    References:
        Weinberger, Dasgupta, Langford, Smola & Attenberg, "Feature hashing for large scale multitask learning", ICML
        2009.
    """

    costly: ClassVar[bool] = False

    def __init__(self, dimension: int = 1024, stop_words: str | None = "english") -> None:
        check_count(dimension, "dimension")
        if stop_words is not None:
            check_choice(stop_words, STOP_WORDS, "stop_words")
        self.dimension = dimension
        self.stop_words = stop_words

    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on."""
        return {"descriptor": "hashed_words", "dimension": self.dimension, "stop_words": self.stop_words}

    def describe(self, texts: Sequence[str]) -> Tensor:
        """Compute features of n texts.

        Returns:
            float32 (n, d), rows of length 1, or 0 for a text without words.

        Raises:
            InvalidInputError: not texts, or features too large for memory.
        """
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.preprocessing import normalize

        check_texts(texts)
        vectorizer = HashingVectorizer(
            n_features=self.dimension, stop_words=self.stop_words, norm=None, alternate_sign=True, dtype=np.float32
        )
        counts = vectorizer.transform(texts)
        counts.data = np.sign(counts.data) * np.log1p(np.abs(counts.data))
        try:
            features: Tensor = torch.from_numpy(normalize(counts).toarray())
        except MemoryError as error:
            size = len(texts) * self.dimension * 4 / 2**30
            raise InvalidInputError(
                f"features of {len(texts)} texts need {math.ceil(size)} GiB; lower dimension={self.dimension}."
            ) from error
        return features
