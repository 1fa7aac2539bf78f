"""Bits and packed codes; the only module that defines the order of bits and the zero rule.

A code of b bits is packed into B = ⌈b/8⌉ bytes in the order of `numpy.packbits(..., bitorder="little")` and of
FAISS's binary indexes: bit j is bit j mod 8 of byte j // 8. The bits that pad the last byte are 0.
A margin m, the signed distance of a projection from its threshold, gives the bit m >= 0; a zero margin gives 1.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deephash.conversion import as_tensor, convert_numpy_numbers
from deephash.validation import InvalidInputError, as_numbers, check_bits


def code_bytes(bits: int) -> int:
    """Return the bytes of a packed code: ⌈bits/8⌉."""
    return (bits + 7) // 8


def hard_bits(margins: Tensor) -> Tensor:
    """Return the bits of margins by the zero rule, bit = (margin >= 0).

    Args:
        margins: any shape, any floating dtype.

    Returns:
        bool, the same shape.
    """
    return margins >= 0


def pack(bits: Tensor) -> Tensor:
    """Pack bits into bytes.

    Args:
        bits: bool (n, b), or whole numbers that are 0 or 1; a tensor or an array.

    Returns:
        uint8 (n, ⌈b/8⌉) on the same device.

    Raises:
        InvalidInputError: floating-point numbers, numbers other than 0 and 1, or not two axes.

    Examples:
        >>> pack(torch.tensor([[True, False, False, False, False, False, False, False, True]]))
        tensor([[1, 1]], dtype=torch.uint8)
    """
    bits = as_tensor(as_numbers(bits, "bits"))
    if bits.ndim != 2:
        raise InvalidInputError(f"bits have shape {tuple(bits.shape)}; expected two axes, (n, b).")
    if bits.dtype != torch.bool:
        if bits.is_floating_point() or not bool(((bits == 0) | (bits == 1)).all()):
            raise InvalidInputError(
                f"bits have dtype {bits.dtype}; expected truth values, such as projections >= 0, or integers 0 and 1."
            )
        bits = bits.bool()
    if bits.device.type == "cpu":
        return torch.from_numpy(np.packbits(bits.numpy(), axis=1, bitorder="little"))
    n, b = bits.shape
    padded = torch.zeros(n, code_bytes(b) * 8, dtype=torch.uint8, device=bits.device)
    padded[:, :b] = bits
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    # Shifted bits do not overlap, so the sum is at most 255.
    return (padded.view(n, code_bytes(b), 8) << shifts).sum(-1, dtype=torch.uint8)


@convert_numpy_numbers
def unpack(codes: Tensor, bits: int) -> Tensor:
    """Unpack bytes into bits, the inverse of `pack`.

    Args:
        codes: uint8 (n, ⌈bits/8⌉).
        bits: code length b.

    Returns:
        bool (n, bits) on the same device.

    Raises:
        InvalidInputError: the codes are not uint8 of that width, or `bits` is not a code length.
    """
    check_bits(bits)
    codes = as_codes(codes)
    check_codes(codes, bits)
    shifts = torch.arange(8, dtype=torch.uint8, device=codes.device)
    return ((codes[:, :, None] >> shifts) & 1).flatten(1)[:, :bits].bool()


def cut_codes(codes: Any, bits: int) -> Tensor:
    """Cut packed codes to their first bits, for codes whose prefixes are codes, such as those of `NestedITQ`.

    Args:
        codes: packed codes uint8 (n, B) of at least `bits` bits; a tensor, an array or nested lists.
        bits: length of the prefix.

    Returns:
        uint8 (n, ⌈bits/8⌉), contiguous, on the same device; the bits that pad the last byte are 0.

    Raises:
        InvalidInputError: the codes are not uint8 (n, B), or have fewer bits.

    Examples:
        >>> cut_codes(torch.tensor([[255, 1]], dtype=torch.uint8), 3)
        tensor([[7]], dtype=torch.uint8)
    """
    check_bits(bits)
    codes = as_codes(codes)
    if codes.ndim != 2 or codes.shape[1] < code_bytes(bits):
        raise InvalidInputError(
            f"codes have shape {tuple(codes.shape)}; expected (n, bytes) with at least {code_bytes(bits)} bytes for "
            f"a prefix of {bits} bits."
        )
    cut: Tensor = codes[:, : code_bytes(bits)].clone(memory_format=torch.contiguous_format)
    if bits % 8:
        cut[:, -1] &= (1 << bits % 8) - 1
    return cut


def swap_bit_order(codes: Any) -> Tensor:
    """Convert packed codes between little and big bit order, by reversing the bits of each byte.

    deephash and FAISS store bit j of a code in bit j mod 8 of a byte, counted from the lowest. The default of
    `numpy.packbits`, and the format `ubinary` of sentence-transformers and vLLM, count from the highest. Hamming
    distances are the same in either order if queries and database share it. The conversion is its own inverse.

    Args:
        codes: uint8 of any shape, such as (n, B); a tensor, an array or nested lists.

    Returns:
        uint8 of the same shape, on the same device.

    Raises:
        InvalidInputError: the codes are not uint8.

    Examples:
        >>> bits = np.array([[True, True, False, False, False, False, False, False]])
        >>> bool((swap_bit_order(np.packbits(bits, axis=1)) == pack(bits)).all())
        True
    """
    swapped = as_codes(codes)
    # Halves of four, two and one bits change places; no index of eight bytes is made for each byte.
    for width, mask in ((4, 0x0F), (2, 0x33), (1, 0x55)):
        swapped = ((swapped & mask) << width) | ((swapped >> width) & mask)
    return swapped


def as_codes(codes: Any, name: str = "codes") -> Tensor:
    """Convert packed codes to a tensor, which shares their memory if possible.

    Args:
        codes: a tensor, an array, a memory map or nested lists.
        name: name of the codes in messages.

    Raises:
        InvalidInputError: the codes are not numbers, or not uint8.
    """
    given = as_numbers(codes, name)
    if isinstance(codes, list | tuple) and not isinstance(given, Tensor) and given.dtype.kind in "iu":
        # Lists have no dtype: their whole numbers must be bytes.
        if given.size and not 0 <= given.min() <= given.max() <= 255:
            raise InvalidInputError(f"{name} contain {given.min()} to {given.max()}; packed codes are bytes, 0 to 255.")
        given = given.astype(np.uint8)
    if not isinstance(given, Tensor) and given.dtype != np.uint8:
        raise InvalidInputError(f"{name} have dtype {given.dtype}; packed codes are uint8 (numpy.packbits).")
    return given if isinstance(given, Tensor) else as_tensor(given)


def check_codes(codes: Tensor, bits: int, name: str = "codes") -> None:
    """Raise an error if the dtype or shape is not that of packed codes of `bits` bits."""
    if codes.dtype != torch.uint8:
        raise InvalidInputError(f"{name} have dtype {codes.dtype}; packed codes are torch.uint8 (deephash.codes.pack).")
    if codes.ndim != 2 or codes.shape[1] != code_bytes(bits):
        raise InvalidInputError(
            f"{name} have shape {tuple(codes.shape)}; codes of {bits} bits are packed as (n, {code_bytes(bits)})."
        )
