"""Export of a hasher as a program, whose codes are compared with the hasher's before it is saved."""

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

# Largest share of bits that may differ: another engine adds in another order, which can flip bits near a threshold.
MAX_SHARE = 1e-4


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Args:
        format: name of the format.
        rows: number of rows on which the program was compared with its hasher.
        differing_bits: number of bits that differ between their codes.
    """

    format: str
    rows: int
    differing_bits: int


def export_hasher(hasher: Hasher, features: Tensor, path: str | Path, format: str | None = None) -> Exported:
    """Export a hasher as a program from float32 features (n, d), n at least 1, to packed codes uint8 (n, ⌈b/8⌉).

    Args:
        hasher: fitted hasher.
        features: floating (n, d), n at least 2, on which the program is traced and compared with the hasher.
        path: output file; it is not written if the program's codes differ from the hasher's.
        format: torchscript, torch_export or onnx; None chooses it by the extension of the path.

    Raises:
        InvalidInputError: the format or extension is unknown, the method cannot be traced, or the program's codes
            differ from the hasher's.
    """
    path = Path(path).expanduser()
    name = find_format(path, format)
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
            except Exception as error:  # Exporters raise many kinds of errors.
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise InvalidInputError(
                    f"{type(hasher.projection).__name__} with {type(hasher.quantizer).__name__} cannot be exported as "
                    f"{name} ({reason}); choose another format."
                ) from error
            differing = count_differing_bits(FORMATS[name], partial, features, expected, hasher.bits)
        allowed = 0 if FORMATS[name].exact else MAX_SHARE * len(features) * hasher.bits
        if differing > allowed:
            raise InvalidInputError(
                f"{differing} of {len(features) * hasher.bits} bits of the {name} program differ from the hasher's; "
                "it was not saved. Choose another format."
            )

    write_whole(path, write)
    return Exported(name, len(features), differing)


def find_format(path: Path, format: str | None) -> str:
    """Return the given format, or find it by the extension of a path.

    Raises:
        InvalidInputError: the format or extension is unknown.
    """
    if format is not None:
        check_choice(format, FORMATS, "format")
        return format
    by_ending = {format.ending: name for name, format in FORMATS.items()}
    check_choice(path.suffix, by_ending, f"the ending of {path.name}")
    return by_ending[path.suffix]


def count_differing_bits(written: Format, path: Path, features: Tensor, expected: Tensor, bits: int) -> int:
    """Count the bits that differ in a written program's codes, for all rows in one call and for the first row alone."""
    run = written.load(path)
    codes, first = run(features), run(features[:1])
    if codes.shape != expected.shape or first.shape != expected[:1].shape or codes.dtype != torch.uint8:
        return len(features) * bits
    pairs = ((codes, expected), (first, expected[:1]))
    return sum(int((unpack(actual, bits) != unpack(wanted, bits)).sum()) for actual, wanted in pairs)
