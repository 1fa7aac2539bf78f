"""Conversion of users' arrays, memory maps, frames, lists and NumPy numbers to tensors and Python's numbers.

Public functions accept all of these; the code behind them sees only tensors and Python's numbers.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
# Whole numbers of up to this many bytes, and truth values, are exact in float32.
BYTES_IN_FLOAT32 = 2


class NotNumbersError(ValueError):
    """An error for values that are not an array of numbers.

    Its message lacks a subject, as in "are a masked array": callers put the name of the values before it.
    """


def to_plain_number(value: Any) -> Any:
    """Convert NumPy's numbers, and tensors of one whole number, to Python numbers, also in lists, tuples and dicts.

    Other values are returned unchanged.
    """
    if value is None or type(value) in (int, str, float, bool):
        return value
    if isinstance(value, Tensor):
        return value.item() if not value.ndim and value.dtype in WHOLE and not value.is_meta else value
    if isinstance(value, np.longdouble):
        return float(value)
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    try:
        if type(value) in (list, tuple):
            return type(value)(to_plain_number(each) for each in value)
        if type(value) is dict:
            return {key: to_plain_number(each) for key, each in value.items()}
    except RecursionError:  # A list that contains itself; a later check reports it.
        return value
    return value


def convert_numpy_numbers(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that NumPy's numbers among its arguments become Python's."""

    @functools.wraps(function)
    def with_plain_numbers(*args: P.args, **kwargs: P.kwargs) -> R:
        # Modules, larger tensors and lists of features pass unchanged; later checks convert such lists.
        return function(*map(to_plain_number, args), **{name: to_plain_number(each) for name, each in kwargs.items()})

    return with_plain_numbers


def convert_numpy_arguments(kind: C) -> C:
    """Decorate a class so that NumPy's numbers among its constructor's arguments become Python's.

    NumPy's whole numbers overflow, and most of NumPy's numbers are not JSON-serialisable.
    """
    changed: Any = kind
    changed.__init__ = convert_numpy_numbers(changed.__init__)
    return kind


class PlainArguments:
    """A base class that decorates all its subclasses with `convert_numpy_arguments`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            convert_numpy_arguments(cls)


def as_array(values: Any) -> Tensor | NDArray[Any]:
    """Convert values to a tensor or an array of numbers, which shares their memory if possible.

    Args:
        values: a tensor, an array, a memory map, a frame or nested lists: anything that `numpy.asarray` accepts.

    Raises:
        NotNumbersError: values are not numbers, are missing, or are not a dense array.
    """
    if isinstance(values, Tensor):
        if values.is_nested or values.is_quantized or values.is_meta:
            kind = "nested" if values.is_nested else "quantised" if values.is_quantized else "without values (meta)"
            raise NotNumbersError(f"are a tensor that is {kind}; give a plain tensor of numbers.")
        if values.layout != torch.strided:
            raise NotNumbersError(f"are a tensor of layout {values.layout}; give a dense one, e.g. values.to_dense().")
        return values
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise NotNumbersError(f"are a sparse {type(values).__name__}; give a dense array, e.g. values.toarray().")
    if np.ma.is_masked(values):
        raise NotNumbersError("are a masked array, and some values are masked; fill them or drop their rows.")
    if values is None or isinstance(values, str | bytes | dict | set) or inspect.isgenerator(values):
        raise NotNumbersError(f"are a {type(values).__name__}; give a torch.Tensor, an array or nested lists.")
    if isinstance(values, list | tuple) and any(isinstance(each, Tensor) for each in values):
        try:
            return torch.stack([torch.as_tensor(each) for each in values])
        except (RuntimeError, TypeError, ValueError) as error:
            raise NotNumbersError(f"are tensors that cannot be stacked ({shorten_error(error)}).") from error
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise NotNumbersError(f"are not an array of numbers ({shorten_error(error)}).") from error
    if (
        array.dtype.kind == "O"
        and array.size
        and all(isinstance(each, int | float | np.number) and not isinstance(each, bool) for each in array.flat)
    ):
        # Frames with columns of several dtypes, and Python's whole numbers beyond 64 bits.
        try:
            array = array.astype(np.float64)
        except OverflowError as error:
            raise NotNumbersError(
                f"contain a number that is too large for float64 ({shorten_error(error)})."
            ) from error
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        what = f"a {type(values).__name__}" if array.dtype.kind == "O" and not array.ndim else f"of dtype {array.dtype}"
        raise NotNumbersError(f"are {what}; give numbers, as a torch.Tensor or an array.")
    return array


def as_tensor(values: Any) -> Tensor:
    """Convert values to a tensor of the same numbers, which shares their memory if possible.

    An array with negative strides, another byte order or a dtype that torch lacks is copied. A read-only array is
    shared, since nothing here writes to a user's values.

    Raises:
        NotNumbersError: values are not numbers.
    """
    values = as_array(values)
    if isinstance(values, Tensor):
        return values
    if values.dtype.name == "bfloat16":  # of the package ml_dtypes
        return torch.from_numpy(values.astype(np.float32)).bfloat16()
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    if dtype != values.dtype or any(stride < 0 or stride % dtype.itemsize for stride in values.strides):
        values = values.astype(dtype, order="C")
    return torch.from_numpy(share_writable(values))


def as_floating(values: Any) -> Tensor:
    """Convert values to a floating tensor; integers become float32 if that is exact for their dtype, else float64.

    Raises:
        NotNumbersError: values are not numbers, or are complex.
    """
    tensor = as_tensor(values)
    if tensor.dtype in FLOATING:
        return tensor
    if tensor.is_complex():
        raise NotNumbersError(f"have dtype {tensor.dtype}; expected real numbers.")
    whole = not tensor.is_floating_point()
    return tensor.to(torch.float64 if whole and tensor.element_size() > BYTES_IN_FLOAT32 else torch.float32)


def share_writable(array: NDArray[Any]) -> NDArray[Any]:
    """Return a writable array over the same memory: torch warns about read-only arrays, and a copy takes memory."""
    if array.flags.writeable or not array.size:
        return array if array.flags.writeable else array.copy()
    address, _ = array.__array_interface__["data"]
    return np.asarray(_ArrayInterface(array, {**array.__array_interface__, "data": (address, False)}))


class _ArrayInterface:
    """A view of an array's memory with another `__array_interface__`; the view keeps the array alive."""

    def __init__(self, array: NDArray[Any], interface: dict[str, Any]) -> None:
        self.array = array
        self.__array_interface__ = interface


def shorten_error(error: Exception) -> str:
    """Return an error's message in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
