"""Codes whose bits are signed directions that add up to the vector, learnt together with the directions."""

from pathlib import Path
from typing import Self, final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import pack
from deephash.compression.linear_decoder import BLOCK_ROWS, LinearDecoder, signs
from deephash.conversion import plain_numbers
from deephash.hashers.hasher import Hasher
from deephash.io.progress import track
from deephash.ranking.distance import Hamming
from deephash.validation import InvalidInputError, as_features, check_count

HASHER_FOLDER, DECODER_FILE = "hasher", "decoder.safetensors"
# Sweeps over the bits between two fits of the directions, and when codes are final: most flips are in the first.
FITTING_SWEEPS, SWEEPS = 2, 8


def descend(vectors: Tensor, codes: Tensor, decoder: LinearDecoder, sweeps: int) -> Tensor:
    """Codes nearer to their vectors: bit after bit is set as the others would have it, so that no error grows.

    Args:
        vectors: floating (n, d).
        codes: where to begin, packed uint8 (n, ⌈b/8⌉).
        decoder: of b bits.
        sweeps: passes over the bits at the most; it ends earlier where none changes.

    Returns:
        Packed codes of the same shape, with ‖x - decoded‖² no larger for any item.
    """
    decoder, power = decoder.near_one()
    return torch.cat(
        [
            pack(
                _descended(
                    (rows / power).float() - decoder.offset, signs(code, decoder.bits), decoder.directions, sweeps
                )
                > 0
            )
            for rows, code in zip(torch.split(vectors, BLOCK_ROWS), torch.split(codes, BLOCK_ROWS), strict=True)
        ]
    )


def _descended(vectors: Tensor, estimates: Tensor, directions: Tensor, sweeps: int) -> Tensor:
    """Signs (n, b) of a block after the descent; `estimates` is changed."""
    products = directions @ directions.T
    # What the vector has of each direction beyond the estimate, kept up to date.
    remaining = (vectors - estimates @ directions) @ directions.T
    for _ in range(sweeps):
        flips = 0
        for bit, square in enumerate(products.diagonal().tolist()):
            old = estimates[:, bit]
            # Flipping lowers the error where the estimate without this bit leaves more on the other side.
            rows = torch.nonzero(old * remaining[:, bit] < -square).flatten()
            if len(rows):
                change = -2 * old[rows]
                remaining[rows] -= change[:, None] * products[bit]
                estimates[rows, bit] += change
                flips += len(rows)
        if not flips:
            break
    return estimates


@final
class AdditiveCoder:
    """Codes and decoder that keep vectors as well as they can: better than any threshold, and slower to make.

    A hasher's code starts it. Then, in turn, the directions are fitted to the codes by least squares and each item's
    bits are set one by one to lower its own error, neither of which can raise the sum of squared errors. It is additive
    quantisation with two entries a codebook, or a binary autoencoder whose encoder is a search and not a function.
    Queries are compared in float (`AsymmetricScan`): codes of the coder lie less well for Hamming distance than the
    hasher's own, so keep those for an index by Hamming distance.

    Args:
        hasher: fitted, its codes ranked by Hamming distance, as ITQ with SBQ.
        decoder: of as many bits; None until `fit`.

    Raises:
        InvalidInputError: another distance, or a decoder that does not fit the hasher.

    References:
        Babenko & Lempitsky, "Additive quantization for extreme vector compression", CVPR 2014. Carreira-Perpiñán &
        Raziperchikolaei, "Hashing with binary autoencoders", CVPR 2015.

    Example:
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
                f"the hasher's codes are ranked by {type(hasher.distance).__name__}; give one of independent bits, as "
                "with SBQ."
            )
        if decoder is not None and (decoder.bits, decoder.dimension) != (hasher.bits, hasher.input_dim):
            raise InvalidInputError(
                f"the decoder is of {decoder.bits} bits and {decoder.dimension} dimensions; expected the hasher's "
                f"{hasher.bits} and {hasher.input_dim}."
            )
        self.hasher = hasher
        self._decoder = decoder

    @property
    def decoder(self) -> LinearDecoder:
        """What reads the codes.

        Raises:
            InvalidInputError: there is none yet.
        """
        if self._decoder is None:
            raise InvalidInputError("the coder is not fitted; call fit with training vectors.")
        return self._decoder

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.hasher.bits

    @plain_numbers
    def fit(self, vectors: Tensor | ArrayLike, rounds: int = 12) -> Self:
        """Learn the directions from some vectors; ten thousands are enough.

        Args:
            vectors: floating (n, d), n at least 1, on the CPU.
            rounds: how often directions and bits are set in turn.

        Returns:
            self, fitted.

        Raises:
            InvalidInputError: vectors that the hasher refuses.
        """
        check_count(rounds, "rounds")
        vectors = as_features(vectors, self.hasher.input_dim, 1, "training vectors")
        codes = self.hasher.encode(vectors)
        decoder = LinearDecoder.fit(codes, vectors, self.bits)
        for _ in track(range(rounds), "Additive codes"):
            codes = descend(vectors, codes, decoder, FITTING_SWEEPS)
            decoder = LinearDecoder.fit(codes, vectors, self.bits)
        self._decoder = decoder
        return self

    @torch.no_grad()
    def encode(self, vectors: Tensor | ArrayLike) -> Tensor:
        """Packed codes uint8 (n, ⌈b/8⌉) of vectors (n, d), each by itself, from the hasher's codes.

        Raises:
            InvalidInputError: not fitted, or vectors that the hasher refuses.
        """
        vectors = as_features(vectors, self.hasher.input_dim, name="vectors")
        return descend(vectors, self.hasher.encode(vectors), self.decoder, SWEEPS)

    def save(self, folder: str | Path) -> None:
        """Write the hasher and the decoder into a folder, made where missing."""
        decoder = self.decoder
        self.hasher.save(Path(folder) / HASHER_FOLDER)
        decoder.save(Path(folder) / DECODER_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InvalidInputError: missing or damaged files.
        """
        return cls(Hasher.load(Path(folder) / HASHER_FOLDER), LinearDecoder.load(Path(folder) / DECODER_FILE))
