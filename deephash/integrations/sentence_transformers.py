"""Codes of a fitted hasher as the output of a sentence-transformers model, or of its embeddings.

Bit orders: deephash, `deephash.index` and FAISS store the first bit of a code in the lowest bit of a byte ("little").
sentence-transformers packs by `numpy.packbits`, the first bit in the highest ("big"). Hamming distances, and so the
results of any engine, are the same in either order if queries and database share it.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash.codes import swap_bit_order, unpack
from deephash.hashers.hasher import Hasher
from deephash.integrations.framework_package import needing
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError, as_features, as_numbers, check_choice

with needing("sentence-transformers", "text"):
    from sentence_transformers.base.modules import Module

SIGNS, MARGINS, PACKED = "signs", "margins", "packed"
OUTPUTS = (SIGNS, MARGINS, PACKED)
"""Outputs of `HashCodes`."""
UBINARY, BINARY = "ubinary", "binary"
"""Packed formats of sentence-transformers."""
BIG, LITTLE = "big", "little"


class HashCodes(Module):  # type: ignore[misc,unused-ignore]
    """Last module of a sentence-transformers model: replaces the embedding by its code.

    While the model is trained, the output is the hasher's relaxed bits in [-1, 1], which have gradients, so that a loss
    of sentence-transformers can train the model and the hasher together.

    Args:
        hasher: a fitted hasher of the model's embeddings.
        output: form of the code of b bits.
            "signs": float (n, b), each bit as 1 or -1. `model.similarity` is right, and `encode(...,
            precision="ubinary")` packs the bits.
            "margins": float (n, b), projections minus thresholds, whose signs are the bits. Packed by
            `precision="ubinary"`, they are codes; unpacked, they are queries by which `semantic_search_faiss` and
            `semantic_search_usearch` rescore candidates.
            "packed": uint8 (n, ⌈b/8⌉), as `hasher.encode` returns, for `deephash.index`. `model.similarity` of bytes is
            meaningless.

    Raises:
        InvalidInputError: the hasher is not fitted, an unknown output, or margins of a hasher whose quantiser is not
            SBQ.
    """

    config_keys = ["output"]  # noqa: RUF012 (the base class declares it so)

    def __init__(self, hasher: Hasher, output: str = SIGNS) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        check_choice(output, OUTPUTS, "output")
        hasher.check_fitted()
        if output == MARGINS:
            check_margins(hasher)
        self.hasher = hasher
        self.output = output

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Replace `sentence_embedding` (n, d) by codes."""
        embeddings: Tensor = features["sentence_embedding"]
        if self.training:
            features["sentence_embedding"] = self.hasher(embeddings)
        elif self.output == MARGINS:
            features["sentence_embedding"] = compute_margins(embeddings, self.hasher)
        else:
            codes = self.hasher.encode(embeddings)
            packed = self.output == PACKED
            features["sentence_embedding"] = codes if packed else as_signs(codes, self.hasher.bits, embeddings)
        return features

    def get_embedding_dimension(self) -> int:
        """Return the number of columns of the output: b, or ⌈b/8⌉ of packed codes."""
        bits = self.hasher.bits
        return (bits + 7) // 8 if self.output == PACKED else bits

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write `config.json`, `hasher.json` and `weights.safetensors`; there is no other format."""
        self.save_config(output_path)
        self.hasher.save(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **_: Any,
    ) -> Self:
        """Read what `save` wrote, in a folder or on the Hugging Face hub.

        Args:
            model_name_or_path: folder of the model, or its name on the hub.
            subfolder: folder of this module inside it, as `modules.json` names it.
            token: token of the hub.
            cache_folder: folder of downloaded files.
            revision: revision of the model on the hub.
            local_files_only: whether to use downloaded files alone.
            init_defaults: not used; a saved module has all its settings.

        Raises:
            InvalidInputError: missing or damaged files.
        """
        hub: dict[str, Any] = {
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        config = cls.load_config(model_name_or_path, subfolder=subfolder, **hub)
        folder = cls.load_dir_path(model_name_or_path, subfolder=subfolder, **hub)
        if folder is None or not Path(folder).is_dir():
            raise InvalidInputError(f"{model_name_or_path} has no folder {subfolder!r}; give the folder of a model.")
        return cls(Hasher.load(folder), config.get("output", SIGNS))


def hash_embeddings(
    embeddings: Tensor | ArrayLike, hasher: Hasher, precision: str = UBINARY, bit_order: str = BIG
) -> NDArray[Any]:
    """Pack embeddings by a fitted hasher, in place of `sentence_transformers.quantize_embeddings`.

    `quantize_embeddings(embeddings, precision="ubinary")` keeps the sign of each dimension, so that d dimensions become
    d bits. A hasher learns rotated directions and has any number of bits.

    Args:
        embeddings: floating (n, d), or one embedding (d,).
        hasher: a fitted hasher of d dimensions.
        precision: "ubinary" for uint8, or "binary" for int8, which is ubinary minus 128, as in sentence-transformers.
        bit_order: "big", as in sentence-transformers, or "little", as in deephash and `deephash.index`. Only
            "ubinary" has "little".

    Returns:
        Codes (n, ⌈b/8⌉), or (⌈b/8⌉,) of one embedding. The bits that pad the last byte are 0 (before 128 is
        subtracted).

    Raises:
        InvalidInputError: embeddings of another dimension, NaN, or an unknown precision or bit order.

    Examples:
        >>> from deephash import ITQ
        >>> embeddings = np.random.default_rng(0).normal(size=(100, 16)).astype("float32")
        >>> codes = hash_embeddings(embeddings, Hasher(ITQ(16, 16)).fit(embeddings))
        >>> codes.shape, codes.dtype
        ((100, 2), dtype('uint8'))
    """
    check_choice(precision, (UBINARY, BINARY), "precision")
    check_choice(bit_order, (BIG, LITTLE), "bit_order")
    if precision == BINARY and bit_order == LITTLE:
        raise InvalidInputError("bit_order='little' is for precision='ubinary'; deephash's codes are uint8.")
    rows, is_single = as_rows_of_embeddings(embeddings, hasher)
    codes = hasher.encode(rows)
    packed: NDArray[Any] = (codes if bit_order == LITTLE else swap_bit_order(codes)).cpu().numpy()
    if precision == BINARY:
        packed = (packed.astype(np.int16) - 128).astype(np.int8)
    return packed[0] if is_single else packed


def project_embeddings(embeddings: Tensor | ArrayLike, hasher: Hasher) -> NDArray[np.float32]:
    """Compute margins, whose signs are the bits: floats that sentence-transformers' own functions turn into the codes.

    `quantize_embeddings(margins, precision="ubinary")` equals `hash_embeddings(embeddings, hasher)`, except where a
    margin is exactly 0. `semantic_search_faiss` and `semantic_search_usearch` quantise float queries by the sign of
    each dimension; with margins as queries they compute the right codes and rescore by the margins.

    Args:
        embeddings: floating (n, d), or one embedding (d,).
        hasher: a fitted hasher of d dimensions with SBQ as its quantiser.

    Returns:
        float32 (n, b), or (b,) of one embedding.

    Raises:
        InvalidInputError: embeddings of another dimension, NaN, or another quantiser.
    """
    check_margins(hasher)
    rows, is_single = as_rows_of_embeddings(embeddings, hasher)
    margins: NDArray[np.float32] = compute_margins(rows, hasher).float().cpu().numpy()
    return margins[0] if is_single else margins


def compute_margins(embeddings: Tensor, hasher: Hasher) -> Tensor:
    """Return projections minus thresholds (n, b), on the device of the embeddings."""
    assert isinstance(hasher.quantizer, SBQ)
    projections = hasher.project(embeddings)
    return projections - hasher.quantizer.thresholds.detach().to(projections.device)


def as_signs(codes: Tensor, bits: int, like: Tensor) -> Tensor:
    """Return the bits of packed codes as 1 and -1, (n, b), in the dtype and on the device of another tensor."""
    return unpack(codes, bits).to(like) * 2 - 1


def check_margins(hasher: Hasher) -> None:
    """Raise an error unless each bit of a hasher is the sign of a margin."""
    if not isinstance(hasher.quantizer, SBQ):
        raise InvalidInputError(
            f"the hasher's quantiser is {type(hasher.quantizer).__name__}; margins are those of SBQ, one bit per "
            "projection."
        )


def as_rows_of_embeddings(embeddings: Tensor | ArrayLike, hasher: Hasher) -> tuple[Tensor, bool]:
    """Convert embeddings to rows (n, d), and return whether there was only one embedding (d,)."""
    given = as_numbers(embeddings, "embeddings")
    if given.ndim == 1 and len(given) == 0:  # An empty list.
        return torch.empty(0, hasher.input_dim), False
    is_single = given.ndim == 1
    return as_features(given[None] if is_single else given, hasher.input_dim, name="embeddings"), is_single
