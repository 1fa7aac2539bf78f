"""Additive codes: bits are signs of directions that sum to the vector, learnt together with the directions."""

from pathlib import Path
from typing import Self, final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import pack
from deephash.compression.descent_kernel import descend
from deephash.compression.linear_decoder import BLOCK_ROWS, LinearDecoder, unpack_signs
from deephash.conversion import convert_numpy_numbers
from deephash.hashers.hasher import Hasher
from deephash.io.progress import track
from deephash.ranking.distance import Hamming
from deephash.ranking.numba_engine import run_in_threads
from deephash.validation import InvalidInputError, as_features, check_count

HASHER_FOLDER, DECODER_FILE = "hasher", "decoder.safetensors"
# Sweeps over the bits between fits of the directions, and for final codes. Most flips happen in the first sweep.
FITTING_SWEEPS, SWEEPS = 2, 8


def refine_codes(vectors: Tensor, codes: Tensor, decoder: LinearDecoder, sweeps: int) -> Tensor:
    """Refine codes by coordinate descent over bits, so that no item's error grows.

    Args:
        vectors: floating (n, d).
        codes: initial codes, packed uint8 (n, ⌈b/8⌉).
        decoder: decoder for b bits.
        sweeps: maximum number of passes over the bits. The descent ends when no bit changes.

    Returns:
        Packed codes of the same shape, with ‖x - decoded‖² no larger for any item.
    """
    decoder, power = decoder.normalise()
    products = decoder.directions @ decoder.directions.T
    refined = []
    for rows, code in zip(torch.split(vectors, BLOCK_ROWS), torch.split(codes, BLOCK_ROWS), strict=True):
        signs = unpack_signs(code, decoder.bits)
        # Products of the residuals with the directions, which the kernel keeps up to date.
        centred = (rows / power).float() - decoder.offset
        remaining = centred @ decoder.directions.T - signs @ products
        arguments = (remaining.numpy(), signs.numpy(), products.numpy(), sweeps)
        run_in_threads(descend, arguments, len(signs), torch.get_num_threads())
        refined.append(pack(signs > 0))
    return torch.cat(refined)


@final
class AdditiveCoder:
    """Codes and a decoder with a smaller reconstruction error than codes by thresholds, but slower to compute.

    Training starts from the codes of a hasher. It alternates between a least-squares fit of the directions and
    coordinate descent over the bits of each item; neither step can raise the sum of squared errors. The result is
    additive quantisation with two entries per codebook, or a binary autoencoder whose encoder is a search. Compare the
    codes with float queries (`AsymmetricScan`). The codes of the hasher itself are better for Hamming distance.

    Args:
        hasher: fitted hasher with codes ranked by Hamming distance, such as ITQ with SBQ.
        decoder: decoder of the same length; None until `fit`.

    Raises:
        InvalidInputError: the hasher uses another distance, or the decoder does not match the hasher.

    References:
        Babenko & Lempitsky, "Additive quantization for extreme vector compression", CVPR 2014. Carreira-Perpiñán &
        Raziperchikolaei, "Hashing with binary autoencoders", CVPR 2015.

    Examples:
        >>> from deephash.projections.itq import ITQ
        >>> from deephash.quantizers.sbq import SBQ
        >>> vectors = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
        >>> coder = AdditiveCoder(Hasher(ITQ(16, 12), SBQ(12)).fit(vectors)).fit(vectors)
        >>> coder.encode(vectors).shape
        torch.Size([500, 2])
    """

    def __init__(self, hasher: Hasher, decoder: LinearDecoder | None = None) -> None:
        if not isinstance(hasher.distance, Hamming):
            raise InvalidInputError(
                f"the hasher's codes are ranked by {type(hasher.distance).__name__}; give one with "
                "independent bits, such as SBQ."
            )
        if decoder is not None and (decoder.bits, decoder.dimension) != (hasher.bits, hasher.input_dim):
            raise InvalidInputError(
                f"the decoder has {decoder.bits} bits and {decoder.dimension} dimensions; expected the hasher's "
                f"{hasher.bits} and {hasher.input_dim}."
            )
        self.hasher = hasher
        self._decoder = decoder

    @property
    def decoder(self) -> LinearDecoder:
        """Decoder of the codes.

        Raises:
            InvalidInputError: the coder is not fitted.
        """
        if self._decoder is None:
            raise InvalidInputError("the coder is not fitted; call fit with training vectors.")
        return self._decoder

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.hasher.bits

    @convert_numpy_numbers
    def fit(self, vectors: Tensor | ArrayLike, rounds: int = 12) -> Self:
        """Learn the directions from vectors; tens of thousands are enough.

        Args:
            vectors: floating (n, d), n at least 1, on the CPU.
            rounds: number of alternations between directions and bits.

        Returns:
            self, fitted.

        Raises:
            InvalidInputError: the vectors are invalid for the hasher.
        """
        check_count(rounds, "rounds")
        vectors = as_features(vectors, self.hasher.input_dim, 1, "training vectors")
        codes = self.hasher.encode(vectors)
        decoder = LinearDecoder.fit(codes, vectors, self.bits)
        for _ in track(range(rounds), "Additive codes"):
            codes = refine_codes(vectors, codes, decoder, FITTING_SWEEPS)
            decoder = LinearDecoder.fit(codes, vectors, self.bits)
        self._decoder = decoder
        return self

    @torch.no_grad()
    def encode(self, vectors: Tensor | ArrayLike) -> Tensor:
        """Encode vectors (n, d) independently as packed codes uint8 (n, ⌈b/8⌉).

        Raises:
            InvalidInputError: the coder is not fitted, or the vectors are invalid for the hasher.
        """
        vectors = as_features(vectors, self.hasher.input_dim, name="vectors")
        return refine_codes(vectors, self.hasher.encode(vectors), self.decoder, SWEEPS)

    def save(self, folder: str | Path) -> None:
        """Write the hasher and the decoder into a folder, which is created if missing."""
        decoder = self.decoder
        self.hasher.save(Path(folder) / HASHER_FOLDER)
        decoder.save(Path(folder) / DECODER_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a coder written by `save`.

        Raises:
            InvalidInputError: files are missing or damaged.
        """
        return cls(Hasher.load(Path(folder) / HASHER_FOLDER), LinearDecoder.load(Path(folder) / DECODER_FILE))
