"""The sizes of a module before it takes memory, so that a stored one is compared with its weights first.

A small file can describe a hasher of any size; its constructors run here with large tensors on torch's meta device.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

MAX_CALLS = 100_000
"""Calls of torch that build a hasher; the deepest of torchvision's networks takes an eighth of them."""
MAX_SMALL, MAX_SMALL_VALUES = 1 << 12, 1 << 24
"""Values of a tensor that takes memory before weights are compared, and of all of them together."""
MAX_UNSAVED = 1 << 26
"""Bytes of tables that parts compute when they are built, beside as many as their weights have."""
PRECISIONS = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))

FACTORIES = frozenset(
    (torch.arange, torch.empty, torch.eye, torch.full, torch.linspace, torch.ones, torch.rand, torch.randint)
).union((torch.randn, torch.randperm, torch.tensor, torch.zeros))
"""What makes tensors of a size that is given."""

M = TypeVar("M", bound=nn.Module)


class Outlining(TorchFunctionMode):
    """Makes large tensors without memory, on torch's meta device, and ends a constructor that does too much.

    Args:
        small: values up to which a tensor is made as it is, since constructors read the values of small tables back.
    """

    def __init__(self, small: int) -> None:
        super().__init__()
        self.small = small
        self.calls = 0
        self.values = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, or give what the call would give of shapes and dtypes alone."""
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise ValueError(f"its parts take more than {MAX_CALLS} calls of torch to build")
        kwargs = dict(kwargs or {})
        if func in FACTORIES and kwargs.get("device") is None:
            values = values_made(func, args, kwargs)
            if values > self.small or self.values > MAX_SMALL_VALUES:
                return func(*args, **without_generator(kwargs), device="meta")
            self.values += values
        return func(*args, **kwargs)


def values_made(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """Number of values that a call of a factory would make."""
    # These two have no kernel for the meta device but in Python, which takes torch seconds to import.
    if func is torch.arange and all(isinstance(value, int) for value in args):
        return len(range(*args))
    if func is torch.eye and all(isinstance(value, int) for value in args):
        return int(args[0] * args[-1])
    return int(func(*args, **{**without_generator(kwargs), "device": "meta"}).numel())


def without_generator(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keywords of a factory for a tensor whose values are never drawn."""
    return {name: value for name, value in kwargs.items() if name not in ("generator", "device")}


def outline(build: Callable[[dict[str, Any]], M], description: dict[str, Any]) -> M:
    """A hasher of the sizes of the one described, whose large weights have shapes and dtypes and take no memory.

    Raises:
        Exception: what a constructor raises; ValueError where it would make more than any hasher consists of.
    """
    with torch.random.fork_rng(devices=[]):  # Small starts are drawn, and a draw more would change what follows.
        try:
            with Outlining(MAX_SMALL):
                return build(description)
        except (NotImplementedError, RuntimeError) as error:
            if "meta" not in str(error):
                raise
        # A constructor that computes a large table from a small one has both on one device only so.
        with Outlining(0):
            return build(description)


def check_fits(outlined: nn.Module, weights: dict[str, Tensor]) -> None:
    """Raise an error for weights of other names, shapes or dtypes than an outline has.

    Floating weights may be of any precision: a hasher in float64 is built as float32.

    Raises:
        ValueError: saying which.
    """
    expected = outlined.state_dict()
    if differing := sorted(expected.keys() ^ weights.keys()):
        lacks = "lacks" if differing[0] in expected else "has, and its parts lack,"
        raise ValueError(f"it {lacks} the weight {differing[0]}")
    for name, tensor in weights.items():
        shape, own = expected[name].shape, expected[name].dtype
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, and its parts take {tuple(shape)}")
        if tensor.dtype != own and not (own in PRECISIONS and tensor.dtype in PRECISIONS):
            raise ValueError(f"{name} has dtype {tensor.dtype}, and its parts take {own}")
    kept = {id(tensor) for tensor in outlined.state_dict(keep_vars=True).values()}
    unsaved = sum(buffer.nbytes for buffer in outlined.buffers() if id(buffer) not in kept)
    if unsaved > MAX_UNSAVED + sum(tensor.nbytes for tensor in weights.values()):
        raise ValueError(f"its parts take {unsaved} bytes beside their weights")
