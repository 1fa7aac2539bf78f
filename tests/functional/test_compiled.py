"""Compiled loops: where numba keeps them, and kernels of an installation that is not writable."""

import importlib.util
import os
from pathlib import Path

import numba
import pytest
from numba.core import caching

from deephash.functional import compiled

SOURCE = """
from deephash.functional.compiled import compiled

@compiled
def double(x):
    return 2 * x
"""


def load(path):
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.double


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A module whose kernel was compiled beside it, in a folder that is no longer writable."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    path = tmp_path / "package" / "installed_loops.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    assert load(path)(3) == 6
    folder = path.parent / "__pycache__"
    assert sorted(file.suffix for file in folder.glob("*.nb*")) == [".nbc", ".nbi"]
    access = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != folder and access(place, mode))
    return path


def test_kernels_of_a_read_only_installation_are_copied(installed, tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    kernel = load(installed)
    assert Path(kernel.stats.cache_path).is_relative_to(tmp_path / "cache")
    assert kernel(4) == 8
    assert sum(kernel.stats.cache_hits.values()) == 1


def test_kernels_of_a_read_only_installation_are_used_where_nothing_can_be_written(installed, monkeypatch):
    provided = [kind for kind in caching.CacheImpl._locator_classes if "UserProvided" in kind.__name__]
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", provided)
    kernel = load(installed)
    assert kernel(4) == 8
    assert sum(kernel.stats.cache_hits.values()) == 1
    assert numba.config.CACHE_DIR == ""


def test_kernels_of_a_changed_source_are_compiled_again(installed, tmp_path, monkeypatch):
    installed.write_text(SOURCE.replace("2 * x", "3 * x"))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    kernel = load(installed)
    assert kernel(4) == 12
    assert sum(kernel.stats.cache_hits.values()) == 0


def test_a_writable_installation_is_used_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    path = tmp_path / "loops.py"
    path.write_text(SOURCE)
    assert load(path)(3) == 6
    assert compiled.find_installed_kernels(load(path).py_func) == []
