"""What users hand in as tensors and plain numbers: arrays, memory maps, frames, lists, NumPy's own numbers.

The borders of the package take all of these; inside there are tensors and Python's numbers alone.
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
# Whole numbers of at most so many bytes, and truth values, are exact in float32.
BYTES_IN_FLOAT32 = 2


class NotNumbersError(ValueError):
    """Values are no array of numbers; the message says why, completing "features ..."."""


def plain_number(value: Any) -> Any:
    """NumPy's number, or a tensor of one whole number, as Python's; anything else as it is.

    So also within lists, tuples and dictionaries.
    """
    if isinstance(value, np.longdouble):
        return float(value)
    if isinstance(value, Tensor) and not value.ndim and value.dtype in WHOLE and not value.is_meta:
        return value.item()
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    try:
        if type(value) in (list, tuple):
            return type(value)(plain_number(each) for each in value)
        if type(value) is dict:
            return {key: plain_number(each) for key, each in value.items()}
    except RecursionError:  # A list within itself is refused where it is checked.
        return value
    return value


def plain_numbers(function: Callable[P, R]) -> Callable[P, R]:
    """A function that is given Python's numbers where its caller gives NumPy's."""

    @functools.wraps(function)
    def given_plain(*args: P.args, **kwargs: P.kwargs) -> R:
        # Tensors and parts, which most arguments are, pass untouched; so do lists of features and the like, which
        # are converted where they are checked.
        return function(*map(plain_number, args), **{name: plain_number(each) for name, each in kwargs.items()})

    return given_plain


def plain_arguments(kind: C) -> C:
    """A class whose constructor is given Python's numbers where its caller gives NumPy's.

    NumPy's whole numbers overflow, and JSON holds none of NumPy's.
    """
    own: Any = kind
    own.__init__ = plain_numbers(own.__init__)
    return kind


class PlainArguments:
    """A contract whose classes all take NumPy's numbers as Python's."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            plain_arguments(cls)


def as_array(values: Any) -> Tensor | NDArray[Any]:
    """Values as a tensor or an array of numbers, sharing memory with what was given where that is possible.

    Args:
        values: a tensor; or an array, a memory map, a frame, nested lists: anything that `numpy.asarray` takes.

    Raises:
        NotNumbersError: values that are no numbers, lack some, or are no dense array.
    """
    if isinstance(values, Tensor):
        if values.is_nested or values.is_quantized or values.is_meta:
            kind = "nested" if values.is_nested else "quantised" if values.is_quantized else "without values (meta)"
            raise NotNumbersError(f"are a tensor that is {kind}; give a plain one of numbers.")
        if values.layout != torch.strided:
            raise NotNumbersError(f"are a tensor of layout {values.layout}; give a dense one, as values.to_dense().")
        return values
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise NotNumbersError(f"are a sparse {type(values).__name__}; give a dense array, as values.toarray().")
    if np.ma.is_masked(values):
        raise NotNumbersError("are a masked array, and some values are masked; fill them or drop their rows.")
    if values is None or isinstance(values, str | bytes | dict | set) or inspect.isgenerator(values):
        raise NotNumbersError(f"are a {type(values).__name__}; give a torch.Tensor, an array or nested lists.")
    if isinstance(values, list | tuple) and any(isinstance(each, Tensor) for each in values):
        try:
            return torch.stack([torch.as_tensor(each) for each in values])
        except (RuntimeError, TypeError, ValueError) as error:
            raise NotNumbersError(f"are tensors that no array can be made of ({first_line(error)}).") from error
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise NotNumbersError(f"are no array of numbers ({first_line(error)}).") from error
    if (
        array.dtype.kind == "O"
        and array.size
        and all(isinstance(each, int | float | np.number) and not isinstance(each, bool) for each in array.flat)
    ):
        # A frame of columns of several types, and Python's whole numbers beyond 64 bits.
        try:
            array = array.astype(np.float64)
        except OverflowError as error:
            raise NotNumbersError(f"hold a number that float64 does not ({first_line(error)}).") from error
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        what = f"a {type(values).__name__}" if array.dtype.kind == "O" and not array.ndim else f"of dtype {array.dtype}"
        raise NotNumbersError(f"are {what}; give numbers, as a torch.Tensor or an array.")
    return array


def as_tensor(values: Any) -> Tensor:
    """Values as a tensor of the same numbers, sharing memory where that is possible.

    An array that lies in memory backwards, in another order of bytes or in a type that torch lacks is copied. An array
    that may not be written to is shared as well: nothing here writes to what users give.

    Raises:
        NotNumbersError: values that are no numbers.
    """
    values = as_array(values)
    if isinstance(values, Tensor):
        return values
    if values.dtype.name == "bfloat16":  # ml_dtypes'
        return torch.from_numpy(values.astype(np.float32)).bfloat16()
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    if dtype != values.dtype or any(stride < 0 or stride % dtype.itemsize for stride in values.strides):
        values = values.astype(dtype, order="C")
    return torch.from_numpy(shared(values))


def as_floating(values: Any) -> Tensor:
    """Values as a floating tensor: whole numbers and truth values in float32 where that holds all of their type.

    Raises:
        NotNumbersError: values that are no numbers, or complex ones.
    """
    tensor = as_tensor(values)
    if tensor.dtype in FLOATING:
        return tensor
    if tensor.is_complex():
        raise NotNumbersError(f"have dtype {tensor.dtype}; expected real numbers.")
    whole = not tensor.is_floating_point()
    return tensor.to(torch.float64 if whole and tensor.element_size() > BYTES_IN_FLOAT32 else torch.float32)


def shared(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, as one that may be written to: torch warns of others, and a copy could fill the memory."""
    if array.flags.writeable or not array.size:
        return array if array.flags.writeable else array.copy()
    address, _ = array.__array_interface__["data"]
    return np.asarray(_Interface(array, {**array.__array_interface__, "data": (address, False)}))


class _Interface:
    """An array's memory under another description; it keeps the array alive."""

    def __init__(self, array: NDArray[Any], interface: dict[str, Any]) -> None:
        self.array = array
        self.__array_interface__ = interface


def first_line(error: Exception) -> str:
    """What an error of NumPy's or torch's says, in one line."""
    return " ".join(str(error).split())[:200]
