"""Sizes of a saved hasher's parts, compared with its weights before memory is allocated.

A small file can describe a hasher of any size. So its constructors run first with large tensors on torch's meta device.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

MAX_CALLS = 100_000
"""Maximum number of calls of torch while a hasher is built; torchvision's deepest network needs an eighth of them."""
MAX_SMALL, MAX_SMALL_VALUES = 1 << 12, 1 << 24
"""Maximum numbers of values of one tensor, and of all tensors, that are allocated before the weights are compared."""
MAX_UNSAVED = 1 << 26
"""Maximum bytes of unsaved tables that parts compute when they are built, in addition to the size of their weights."""
PRECISIONS = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))

FACTORIES = frozenset(
    (torch.arange, torch.empty, torch.eye, torch.full, torch.linspace, torch.ones, torch.rand, torch.randint)
).union((torch.randn, torch.randperm, torch.tensor, torch.zeros))
"""Functions that make tensors of a given size."""

M = TypeVar("M", bound=nn.Module)


class OutlineMode(TorchFunctionMode):
    """A mode that makes large tensors on torch's meta device and stops constructors that do too much.

    Args:
        small: number of values up to which a tensor is allocated, since constructors read values of small tables.
    """

    def __init__(self, small: int) -> None:
        super().__init__()
        self.small = small
        self.calls = 0
        self.values = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, on the meta device if its result is large."""
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise ValueError(f"its parts take more than {MAX_CALLS} calls of torch to build")
        kwargs = dict(kwargs or {})
        if func in FACTORIES and kwargs.get("device") is None:
            values = count_values(func, args, kwargs)
            if values > self.small or self.values > MAX_SMALL_VALUES:
                return func(*args, **drop_generator(kwargs), device="meta")
            self.values += values
        return func(*args, **kwargs)


def count_values(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """Return the number of values that a call of a factory makes."""
    # These two have only a Python kernel for the meta device, which torch imports in seconds.
    if func is torch.arange and all(isinstance(value, int) for value in args):
        return len(range(*args))
    if func is torch.eye and all(isinstance(value, int) for value in args):
        return int(args[0] * args[-1])
    return int(func(*args, **{**drop_generator(kwargs), "device": "meta"}).numel())


def drop_generator(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return keywords of a factory without its generator and device, for a tensor whose values are not drawn."""
    return {name: value for name, value in kwargs.items() if name not in ("generator", "device")}


def outline(build: Callable[[dict[str, Any]], M], description: dict[str, Any]) -> M:
    """Build the described hasher with large weights that have shapes and dtypes but take no memory.

    Raises:
        Exception: any error of a constructor; ValueError if it allocates more than any hasher needs.
    """
    # Constructors draw small initial weights, which must not advance the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        try:
            with OutlineMode(MAX_SMALL):
                return build(description)
        except (NotImplementedError, RuntimeError) as error:
            if "meta" not in str(error):
                raise
        # A constructor that computes a large table from a small one needs both on one device.
        with OutlineMode(0):
            return build(description)


def check_fits(outlined: nn.Module, weights: dict[str, Tensor]) -> None:
    """Raise a ValueError if the names, shapes or dtypes of weights differ from those of an outline.

    Floating weights may have any precision: a float64 hasher is built as float32.
    """
    expected = outlined.state_dict()
    if differing := sorted(expected.keys() ^ weights.keys()):
        lacks = "lacks" if differing[0] in expected else "has, and its parts lack,"
        raise ValueError(f"it {lacks} the weight {differing[0]}")
    for name, tensor in weights.items():
        shape, dtype = expected[name].shape, expected[name].dtype
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {tuple(shape)}")
        if tensor.dtype != dtype and not (dtype in PRECISIONS and tensor.dtype in PRECISIONS):
            raise ValueError(f"{name} has dtype {tensor.dtype}; expected {dtype}")
    saved = {id(tensor) for tensor in outlined.state_dict(keep_vars=True).values()}
    unsaved = sum(buffer.nbytes for buffer in outlined.buffers() if id(buffer) not in saved)
    if unsaved > MAX_UNSAVED + sum(tensor.nbytes for tensor in weights.values()):
        raise ValueError(f"its parts take {unsaved} bytes in addition to their weights")
