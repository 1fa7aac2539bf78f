"""Runs of a sweep share what is equal for all of them, and nothing else."""

import gc
import weakref

import pytest

from deephash.command_line.programs.train import train
from deephash.data.mnist5k import MNIST5k
from deephash.training.building import build_data
from deephash.training.dataset_cache import DatasetCache
from deephash.validation import InvalidInputError

SETTINGS = ("method=lsh", "bits=16", "protocol=five_way_small", "metrics.at=[10]", "figures=false")


@pytest.fixture
def loads(monkeypatch):
    """How often the images were read."""
    counted = []
    original = MNIST5k.load
    monkeypatch.setattr(MNIST5k, "load", lambda self: counted.append(self) or original(self))
    return counted


@pytest.mark.ci
def test_data_are_read_once_and_figures_are_those_of_single_runs(compose_config, tmp_path, loads):
    kept = DatasetCache()
    jobs = [("truth=label",), ("truth=epsilon_ball",), ("truth=epsilon_ball", "bits=8"), ("truth=label", "seed=1")]
    shared = [train(compose_config(*SETTINGS, *job), tmp_path / f"kept{i}", kept) for i, job in enumerate(jobs)]
    assert len(loads) == 1
    for place, job in enumerate(jobs):
        alone = train(compose_config(*SETTINGS, *job), tmp_path / f"alone{place}")
        assert alone.row["metrics"] == shared[place].row["metrics"]
        assert alone.row["split"] == shared[place].row["split"]
    assert len(loads) == 1 + len(jobs)


def test_truth_is_computed_once_for_a_split(compose_config, tmp_path, monkeypatch):
    from deephash.affinity.epsilon_ball import EpsilonBall

    times = []
    original = EpsilonBall.relevance
    monkeypatch.setattr(EpsilonBall, "relevance", lambda *given: times.append(1) or original(*given))
    kept = DatasetCache()
    for place, job in enumerate([("bits=8",), ("bits=12",), ("seed=1",), ("seed=1", "truth.neighbours=20")]):
        train(compose_config(*SETTINGS, "truth=epsilon_ball", *job), tmp_path / str(place), kept)
    assert len(times) == 3


def test_items_that_another_seed_holds_out_have_their_own_truth(compose_config):
    cache, split = DatasetCache(), None
    for seed in (0, 1):
        config = compose_config(*SETTINGS, "protocol=literature", f"seed={seed}")
        data = build_data(config, split)  # Of one split, as an official one is for every seed.
        cache.read(config, data)
        data.hold_out(0.1)
        assert cache.truth(config, data).data is data
        split = data.split


def test_no_figures_where_none_are_wanted(compose_config, tmp_path):
    run = train(compose_config(*SETTINGS), tmp_path / "run")
    assert not list(run.folder.glob("*.png"))
    assert (run.folder / "per_query.parquet").exists()


def test_another_data_set_frees_the_one_before(compose_config):
    cache, config = DatasetCache(), compose_config(*SETTINGS)
    data = build_data(config)
    cache.read(config, data)
    cache.truth(config, data)
    released = weakref.ref(data)
    del data
    other = compose_config(*SETTINGS, "data=arrays", "data.features=missing.npy")
    with pytest.raises(InvalidInputError):
        cache.read(other, build_data(other))
    gc.collect()
    assert released() is None


def test_the_parts_of_the_last_run_do_not_stay_in_memory(compose_config, tmp_path, monkeypatch):
    modules, cache = [], DatasetCache()
    read = DatasetCache.read

    def noted(self, config, data):
        read(self, config, data)
        alive = [module for module in modules if module() is not None]
        modules.append(weakref.ref(data))
        assert len(alive) <= 1  # that of the fitted truth

    monkeypatch.setattr(DatasetCache, "read", noted)
    joint = ("method=csq", "train.epochs=1", "encoder.hidden=[8]", "bits=8")
    gc.disable()
    try:
        for seed in (0, 1, 2):
            config = compose_config(*SETTINGS[2:], *joint, "logger=none", f"seed={seed}")
            train(config, tmp_path / str(seed), cache)
    finally:
        gc.enable()
    assert len(modules) == 3
