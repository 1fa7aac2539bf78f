"""Formats of exported programs: functions that write a program, and load it to run."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deephash.validation import InvalidInputError

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Format:
    """A format of exported programs.

    Args:
        ending: extension of its files.
        write: function that traces a module on features (n, d) and writes it to a path.
        load: function that loads a program from a path, as a function from features to codes.
        exact: whether the program runs torch's operations, so that every bit must be the same.
    """

    ending: str
    write: Callable[[nn.Module, Tensor, Path], None]
    load: Callable[[Path], Run]
    exact: bool


def write_torchscript(program: nn.Module, features: Tensor, path: Path) -> None:
    """Trace and save a program for `torch.jit.load` in Python and C++."""
    with silence_exporters():
        traced = torch.jit.trace(program, (features,), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path))


def load_torchscript(path: Path) -> Run:
    """Load a program written by `write_torchscript`."""
    with silence_exporters():
        program: Run = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return program


def write_torch_export(program: nn.Module, features: Tensor, path: Path) -> None:
    """Export and save a program for `torch.export.load` and compilers."""
    with silence_exporters():
        exported = torch.export.export(program, (features,), dynamic_shapes=({0: torch.export.Dim("rows", min=1)},))
        with path.open("wb") as file:
            torch.export.save(exported, file)


def load_torch_export(path: Path) -> Run:
    """Load a program written by `write_torch_export`."""
    with silence_exporters(), path.open("rb") as file:
        program: Run = torch.export.load(file).module()
    return program


def write_onnx(program: nn.Module, features: Tensor, path: Path) -> None:
    """Write a program as one ONNX file with the input `features` and the output `codes`."""
    require_onnx()
    with silence_exporters():
        exported = torch.onnx.export(
            program,
            (features,),
            dynamo=True,
            verbose=False,
            input_names=["features"],
            output_names=["codes"],
            dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
        )
        assert exported is not None
        exported.save(str(path), external_data=False)


def load_onnx(path: Path) -> Run:
    """Load a program written by `write_onnx`, to be run by ONNX Runtime on the CPU."""
    require_onnx()
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda features: torch.from_numpy(session.run(["codes"], {"features": features.numpy()})[0])


FORMATS = {
    "torchscript": Format(".pt", write_torchscript, load_torchscript, exact=True),
    "torch_export": Format(".pt2", write_torch_export, load_torch_export, exact=True),
    "onnx": Format(".onnx", write_onnx, load_onnx, exact=False),
}


def require_onnx() -> None:
    """Raise an error if the packages for ONNX are not installed.

    Raises:
        InvalidInputError: a package is missing; the message names the extra that installs it.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InvalidInputError(
            f"ONNX needs packages that are missing ({error}); pip install 'deephash[onnx]'."
        ) from error


@contextmanager
def silence_exporters() -> Iterator[None]:
    """Silence the warnings and logs of exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
