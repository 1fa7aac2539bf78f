"""Additive codes: bits are signs of directions that sum to the vector, learnt together with the directions."""

from pathlib import Path
from typing import Self, final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import code_bytes, pack
from deephash.compression.descent_kernel import descend
from deephash.compression.linear_decoder import BLOCK_ROWS, TINY, LinearDecoder, unpack_signs
from deephash.conversion import convert_numpy_numbers
from deephash.hashers.hasher import Hasher
from deephash.io.files import read_json_object, reading, write_json
from deephash.io.progress import track
from deephash.ranking.distance import Hamming
from deephash.ranking.numba_engine import run_in_threads
from deephash.validation import InvalidInputError, as_features, check_choice, check_count

HASHER_FOLDER, DECODER_FILE, CODER_FILE = "hasher", "decoder.safetensors", "coder.json"
STARTS = ("least_squares", "hasher")
# Sweeps over the bits between fits of the directions, and for final codes. Most flips happen in the first sweep.
FITTING_SWEEPS, SWEEPS = 2, 8
# Weight of the penalty on real weights, as a share of the mean square of a direction: best of 0.03, 0.1 and 0.3 for the
# errors of held-out GIST and EfficientNet features.
SHRINKAGE = 0.3


def refine_codes(vectors: Tensor, codes: Tensor | None, decoder: LinearDecoder, sweeps: int) -> Tensor:
    """Refine codes by coordinate descent over bits, so that no item's error grows.

    Args:
        vectors: floating (n, d).
        codes: initial codes, packed uint8 (n, ⌈b/8⌉); None starts from the signs of the real weights of the directions
            that reconstruct each vector best, by regularised least squares.
        decoder: decoder for b bits.
        sweeps: maximum number of passes over the bits. The descent ends when no bit changes.

    Returns:
        Packed codes (n, ⌈b/8⌉), with ‖x - decoded‖² no larger than at the start for any item.
    """
    decoder, power = decoder.normalise()
    squares = decoder.directions @ decoder.directions.T
    ridge = SHRINKAGE * squares.diagonal().mean().clamp_min(TINY) * torch.eye(decoder.bits)
    to_weights = torch.linalg.inv((squares + ridge).double()).float()
    refined = []
    for start in range(0, len(vectors), BLOCK_ROWS):
        rows = vectors[start : start + BLOCK_ROWS]
        products = ((rows / power).float() - decoder.offset) @ decoder.directions.T
        if codes is None:
            signs = (products @ to_weights > 0).float().mul_(2).sub_(1)
        else:
            signs = unpack_signs(codes[start : start + BLOCK_ROWS], decoder.bits)
        # Products of the residuals with the directions, which the kernel keeps up to date.
        remaining = products - signs @ squares
        arguments = (remaining.numpy(), signs.numpy(), squares.numpy(), sweeps)
        run_in_threads(descend, arguments, len(signs), torch.get_num_threads())
        refined.append(pack(signs > 0))
    return torch.cat(refined) if refined else torch.empty(0, code_bytes(decoder.bits), dtype=torch.uint8)


@final
class AdditiveCoder:
    """Codes and a decoder with a smaller reconstruction error than codes by thresholds, but slower to compute.

    Training starts from the codes of a hasher. It alternates between a least-squares fit of the directions and
    coordinate descent over the bits of each item. The descent starts from the signs of the real weights that
    reconstruct the item best; in the second half of the rounds, it continues from the last codes, so that no step can
    raise the sum of squared errors. The result is additive quantisation with two entries per codebook, or a binary
    autoencoder whose encoder is a search. Compare the codes with float queries (`AsymmetricScan`). The codes of the
    hasher itself are better for Hamming distance.

    Args:
        hasher: fitted hasher with codes ranked by Hamming distance, such as ITQ with SBQ.
        decoder: decoder of the same length; None until `fit`.
        start: where the descent starts: "least_squares", or "hasher", its codes. The former leaves smaller errors and
            is faster. The latter is that of folders of earlier versions, which store no start, so their codes stay.

    Raises:
        InvalidInputError: the hasher uses another distance, the decoder does not match the hasher, or an unknown start.

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

    def __init__(self, hasher: Hasher, decoder: LinearDecoder | None = None, start: str = "least_squares") -> None:
        check_choice(start, STARTS, "start")
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
        self.hasher, self.start = hasher, start
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
        for done in track(range(rounds), "Additive codes"):
            # Half of the rounds start as `encode` does, which leads away from the hasher; then errors only fall.
            is_free = self.start == "least_squares" and 2 * done < rounds
            codes = refine_codes(vectors, None if is_free else codes, decoder, FITTING_SWEEPS)
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
        codes = self.hasher.encode(vectors) if self.start == "hasher" else None
        return refine_codes(vectors, codes, self.decoder, SWEEPS)

    def save(self, folder: str | Path) -> None:
        """Write the hasher, the decoder and the start into a folder, which is created if missing."""
        decoder = self.decoder
        self.hasher.save(Path(folder) / HASHER_FOLDER)
        decoder.save(Path(folder) / DECODER_FILE)
        write_json(Path(folder) / CODER_FILE, {"start": self.start})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a coder written by `save`.

        Raises:
            InvalidInputError: files are missing or damaged.
        """
        folder = Path(folder)
        hasher, decoder = Hasher.load(folder / HASHER_FOLDER), LinearDecoder.load(folder / DECODER_FILE)
        if not (folder / CODER_FILE).exists():
            return cls(hasher, decoder, "hasher")  # Earlier versions stored no start.
        with reading(folder / CODER_FILE, "the settings of a coder", "give a folder that AdditiveCoder.save wrote"):
            return cls(hasher, decoder, read_json_object(folder / CODER_FILE, "the settings of a coder")["start"])
