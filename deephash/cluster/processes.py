"""Processes of torch.distributed that torchrun or SLURM starts, and sums over them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, distributed

# SLURM's names of torchrun's variables.
SLURM_NAMES = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


@dataclass(frozen=True)
class Process:
    """Position of this process among those that share the work.

    Args:
        rank: its number, from 0.
        world: number of processes.
        local_rank: its number on its machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0


def read_launcher() -> Process:
    """Return the process that the launcher's environment describes; without a launcher, a single process."""
    values = [os.environ.get(name, os.environ.get(slurm)) for name, slurm in SLURM_NAMES.items()]
    if values[0] is None or values[1] is None or "MASTER_ADDR" not in os.environ:
        return Process()
    return Process(int(values[0]), int(values[1]), int(values[2] or 0))


@contextmanager
def process_group() -> Iterator[Process]:
    """Join the group of all launched processes, on the CPU by gloo; a single process needs no group."""
    process = read_launcher()
    if process.world == 1:
        yield process
        return
    distributed.init_process_group("gloo", rank=process.rank, world_size=process.world)
    try:
        yield process
    finally:
        distributed.destroy_process_group()


def sum_processes(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place; without a group, return it unchanged."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(tensor)
    return tensor
