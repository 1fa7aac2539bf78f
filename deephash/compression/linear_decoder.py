"""A linear decoder from codes to vectors, to compare float queries with codes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes, check_codes, code_bytes, unpack
from deephash.conversion import convert_numpy_numbers
from deephash.functional.safe_scale import power_of_two
from deephash.io.files import reading, write_whole
from deephash.validation import InvalidInputError, as_features, to_floating

# Rows of bits and vectors per block in float.
BLOCK_ROWS = 8192
# Added to the squares of each bit, as a share of the rows, so that constant or equal bits have a solution.
RIDGE = 1e-4
# Lower bound of lengths in divisions.
TINY = torch.finfo(torch.float32).tiny


def unpack_signs(codes: Tensor, bits: int) -> Tensor:
    """Return the bits of packed codes as float32 -1 and 1, (n, b)."""
    return unpack(codes, bits).float().mul_(2).sub_(1)


@final
@dataclass(frozen=True)
class LinearDecoder:
    """An estimate of a vector from its code: offset + Σ_j ±direction_j, with the sign of bit j.

    The inner product of a query and an estimate is a sum over bits of products of the query with the directions, so the
    query stays in float. `fit` accepts codes of any hasher and finds the directions by least squares. Two bits per
    dimension in natural binary are two such terms. For three or more bits per dimension, and for nonlinear maps, the
    decoder only captures the linear part.

    Args:
        offset: float32 (d,).
        directions: float32 (b, d).

    Raises:
        InvalidInputError: the shapes do not match.

    References:
        Gordo, Perronnin, Gong & Lazebnik, "Asymmetric distances for binary embeddings", TPAMI 2014: the expectation of
        a projection given its bit, here estimated for all bits at once.

    Examples:
        >>> vectors = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> codes = torch.tensor([[3], [1], [2], [0]], dtype=torch.uint8)
        >>> LinearDecoder.fit(codes, vectors, bits=2).decode(codes[:1]).round().tolist()
        [[1.0, 1.0]]
    """

    offset: Tensor
    directions: Tensor

    def __post_init__(self) -> None:
        for name in ("offset", "directions"):
            object.__setattr__(self, name, to_floating(getattr(self, name), name).float())
        if self.directions.ndim != 2 or self.offset.shape != self.directions.shape[1:]:
            raise InvalidInputError(
                f"offset has shape {tuple(self.offset.shape)} and directions {tuple(self.directions.shape)}; "
                "expected (d,) and (b, d)."
            )
        as_features(self.directions, minimum_rows=1, name="directions")
        as_features(self.offset[None], name="offset")

    @classmethod
    @convert_numpy_numbers
    def fit(cls, codes: Tensor | ArrayLike, vectors: Tensor | ArrayLike, bits: int) -> Self:
        """Fit the decoder with the least squared error, in one pass over blocks of items.

        Args:
            codes: packed codes uint8 (n, ⌈b/8⌉), n at least 1.
            vectors: floating (n, d), the encoded vectors.
            bits: code length b.

        Raises:
            InvalidInputError: the codes or vectors are invalid, or there are more of one than of the other.
        """
        codes = as_codes(codes)
        check_codes(codes, bits)
        vectors = as_features(vectors, minimum_rows=1, name="vectors")
        if len(codes) != len(vectors):
            raise InvalidInputError(f"there are {len(codes)} codes and {len(vectors)} vectors; give one for each.")
        squares = torch.zeros(bits + 1, bits + 1, dtype=torch.float64)
        products = torch.zeros(bits + 1, vectors.shape[1], dtype=torch.float64)
        # The scale keeps float64 vectors within the range of float32.
        power = power_of_two(vectors)
        for code, vector in zip(torch.split(codes, BLOCK_ROWS), torch.split(vectors, BLOCK_ROWS), strict=True):
            # Sums of ±1 over a block are exact in float32.
            inputs = torch.nn.functional.pad(unpack_signs(code.cpu(), bits), (1, 0), value=1.0)
            squares += inputs.T @ inputs
            products += inputs.T @ (vector.cpu() / power.cpu()).float()
        squares += RIDGE * len(codes) * torch.eye(bits + 1, dtype=torch.float64)
        solution = (torch.linalg.solve(squares, products) * power.cpu().double()).float()
        if not bool(torch.isfinite(solution).all()):
            raise InvalidInputError(
                f"the vectors reach {float(power):.0e}, and float32 cannot hold their directions; divide them by a "
                "constant."
            )
        return cls(solution[0], solution[1:])

    @property
    def bits(self) -> int:
        """Code length b."""
        return len(self.directions)

    @property
    def dimension(self) -> int:
        """Dimension d of the vectors."""
        return len(self.offset)

    def decode(self, codes: Tensor | ArrayLike) -> Tensor:
        """Decode packed codes uint8 (n, ⌈b/8⌉) into vectors float32 (n, d)."""
        codes = as_codes(codes)
        self.check_codes(codes)
        return self.offset + unpack_signs(codes, self.bits) @ self.directions

    def normalise(self) -> tuple[Self, Tensor]:
        """Divide the decoder by a power of two, so that its products neither overflow nor vanish.

        Returns:
            The divided decoder, and the power, float32 ().
        """
        power = power_of_two(torch.cat([self.offset[None], self.directions]))
        return type(self)(self.offset / power, self.directions / power), power

    def lengths(self, estimates: Tensor) -> Tensor:
        """Return Euclidean lengths of estimates from their signs, with b products in place of d.

        Args:
            estimates: float32 (..., b) of -1 and 1, as returned by `unpack_signs`.

        Returns:
            float32 (...), above 0.
        """
        # The triangular factor preserves the inner products of offset and directions in at most b + 1 dimensions.
        triangle = torch.linalg.qr(torch.cat([self.offset[None], self.directions]).T, mode="r").R.T
        lengths: Tensor = torch.linalg.vector_norm(triangle[0] + estimates @ triangle[1:], dim=-1)
        return lengths.clamp_min(TINY)

    def weights(self, queries: Tensor) -> Tensor:
        """Return the amount that each bit adds to the inner product with a query if it is 1, and subtracts if it is 0.

        Args:
            queries: floating (q, d).

        Returns:
            float32 (q, b).

        Raises:
            InvalidInputError: the queries have the wrong dimension or are not finite.
        """
        queries = as_features(queries, self.dimension, name="queries")
        return queries.float() @ self.directions.T

    def check_codes(self, codes: Tensor) -> None:
        """Raise `InvalidInputError` if codes are not packed uint8 of this decoder's length."""
        if codes.dtype != torch.uint8 or codes.ndim != 2 or codes.shape[1] != code_bytes(self.bits):
            raise InvalidInputError(
                f"codes have shape {tuple(codes.shape)} and dtype {codes.dtype}; the decoder reads codes of "
                f"{self.bits} bits, packed as uint8 (N, {code_bytes(self.bits)})."
            )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file. The write is atomic."""
        from safetensors.torch import save_file

        parts = {"offset": self.offset.contiguous(), "directions": self.directions.contiguous()}
        write_whole(Path(path), lambda partial: save_file(parts, partial))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a decoder written by `save`.

        Raises:
            InvalidInputError: the file is missing or not a decoder.
        """
        from safetensors.torch import load_file

        with reading(path, "a decoder", "give a file that LinearDecoder.save wrote"):
            parts = load_file(path)
            for name in ("offset", "directions"):
                if not parts[name].is_floating_point():
                    raise ValueError(f"its {name} are {parts[name].dtype}")
            return cls(parts["offset"], parts["directions"])
