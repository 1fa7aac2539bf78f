"""Writing a hasher as a program, once it is known to give the hasher's codes."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deephash.codes import unpack
from deephash.export.formats import FORMATS, Format
from deephash.export.packed_program import PackedProgram
from deephash.hashers.hasher import Hasher
from deephash.io.files import write_whole
from deephash.validation import InvalidInputError, as_features, check_choice

# Another engine sums in another order, which turns a bit whose margin is all rounding: at most this share of them.
MAX_SHARE = 1e-4


@dataclass(frozen=True)
class Exported:
    """How an exported program compares with its hasher.

    Args:
        format: its name.
        rows: on how many rows they were compared.
        differing_bits: bits that they give differently.
    """

    format: str
    rows: int
    differing_bits: int


def export_hasher(hasher: Hasher, features: Tensor, path: str | Path, format: str | None = None) -> Exported:
    """Write a hasher as a program from float32 features (n, d) to packed codes uint8 (n, ⌈b/8⌉), n from 1.

    Args:
        hasher: fitted.
        features: floating (n, d), n from 2, on which the program is traced, and compared with the hasher.
        path: the file; nothing is put there where the program gives other codes.
        format: torchscript, torch_export or onnx; None takes the one of the path's ending.

    Raises:
        InvalidInputError: an unknown format or ending, a method that cannot be traced, or a program that gives other
            codes.
    """
    path = Path(path).expanduser()
    name = format_of(path, format)
    features = as_features(features, hasher.input_dim, 2)
    features = features.float().cpu()
    program = PackedProgram(copy.deepcopy(hasher).cpu().eval()).eval().requires_grad_(False)
    expected = copy.deepcopy(hasher).cpu().encode(features, len(features))
    differing = 0

    def write(partial: Path) -> None:
        nonlocal differing
        with torch.no_grad():
            try:
                FORMATS[name].write(program, features, partial)
            except InvalidInputError:
                raise
            except Exception as error:  # what cannot be traced raises all sorts
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise InvalidInputError(
                    f"{type(hasher.projection).__name__} with {type(hasher.quantizer).__name__} cannot be written as "
                    f"{name} ({reason}); choose another format."
                ) from error
            differing = compared(FORMATS[name], partial, features, expected, hasher.bits)
        allowed = 0 if FORMATS[name].exact else MAX_SHARE * len(features) * hasher.bits
        if differing > allowed:
            raise InvalidInputError(
                f"the {name} program gives {differing} of {len(features) * hasher.bits} bits otherwise than the "
                "hasher; it was not kept. Choose another format."
            )

    write_whole(path, write)
    return Exported(name, len(features), differing)


def format_of(path: Path, format: str | None) -> str:
    """The name of a format, given or by a path's ending.

    Raises:
        InvalidInputError: an unknown one.
    """
    if format is not None:
        check_choice(format, FORMATS, "format")
        return format
    by_ending = {known.ending: name for name, known in FORMATS.items()}
    check_choice(path.suffix, by_ending, f"the ending of {path.name}")
    return by_ending[path.suffix]


def compared(known: Format, path: Path, features: Tensor, expected: Tensor, bits: int) -> int:
    """Bits that a written program gives otherwise, for all rows at once, and for the first alone."""
    run = known.load(path)
    codes, first = run(features), run(features[:1])
    if codes.shape != expected.shape or first.shape != expected[:1].shape or codes.dtype != torch.uint8:
        return len(features) * bits
    pairs = ((codes, expected), (first, expected[:1]))
    return sum(int((unpack(one, bits) != unpack(other, bits)).sum()) for one, other in pairs)
