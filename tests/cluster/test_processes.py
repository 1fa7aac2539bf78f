"""Rank and number of processes, as launchers report them."""

import pytest

from deephash.cluster.processes import SLURM_NAMES, Process, read_launcher


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (*SLURM_NAMES, *SLURM_NAMES.values(), "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)


def test_alone_without_a_launcher(monkeypatch):
    assert read_launcher() == Process()
    # A shell of SLURM, in which no srun started this.
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert read_launcher() == Process()


def test_torchrun_goes_before_slurm(monkeypatch):
    for name, value in {"MASTER_ADDR": "one", "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert read_launcher() == Process(5, 8, 1)
    for name, value in {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert read_launcher() == Process(2, 4, 0)
    assert not read_launcher().is_first
