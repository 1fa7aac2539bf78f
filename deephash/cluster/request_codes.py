"""Packed codes of a request, in base64."""

import base64
import binascii
from collections.abc import Sequence

import numpy as np
import torch

from deephash.codes import code_bytes
from deephash.ranking.inputs import check_padding
from deephash.validation import InvalidInputError


def decode_codes(texts: Sequence[str], bits: int) -> np.ndarray:
    """Return codes uint8 (n, ⌈b/8⌉) from base64 strings, at least one.

    Raises:
        InvalidInputError: strings that are not base64, or codes of another length.
    """
    width = code_bytes(bits)
    try:
        packed = [base64.b64decode(code, validate=True) for code in texts]
    except (binascii.Error, TypeError, ValueError) as error:
        raise InvalidInputError(f"a code is not base64 ({error}).") from error
    if any(len(code) != width for code in packed):
        raise InvalidInputError(f"a code does not have {width} bytes; the index has codes of {bits} bits.")
    codes = np.frombuffer(bytearray(b"".join(packed)), np.uint8).reshape(len(packed), width)
    check_padding(torch.from_numpy(codes), bits, "codes")
    return codes
