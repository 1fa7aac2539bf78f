"""Processes of torch.distributed as torchrun or SLURM starts them, and sums over them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, distributed

# SLURM's names for what torchrun calls RANK, WORLD_SIZE and LOCAL_RANK.
SLURM_NAMES = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


@dataclass(frozen=True)
class Process:
    """This process among those that share the work.

    Args:
        rank: its number, from 0.
        world: how many there are.
        local_rank: its number on its machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0


def launched_as() -> Process:
    """What the launcher's environment says of this process; alone where there was no launcher."""
    values = [os.environ.get(name, os.environ.get(slurm)) for name, slurm in SLURM_NAMES.items()]
    if values[0] is None or values[1] is None or "MASTER_ADDR" not in os.environ:
        return Process()
    return Process(int(values[0]), int(values[1]), int(values[2] or 0))


@contextmanager
def process_group() -> Iterator[Process]:
    """The group of all processes that were launched together, on the CPU by gloo; none where this one is alone."""
    process = launched_as()
    if process.world == 1:
        yield process
        return
    distributed.init_process_group("gloo", rank=process.rank, world_size=process.world)
    try:
        yield process
    finally:
        distributed.destroy_process_group()


def summed(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in place; the tensor itself where this one is alone."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(tensor)
    return tensor
