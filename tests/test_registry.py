"""Words, classes, YAML files and public names agree, and other packages can add to them."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import deephash
from deephash import HashingTransformer, registry
from deephash.validation import InvalidInputError

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = """
import torch
from torch import nn

from deephash.projections import Projection


class Signs(Projection):
    def __init__(self, input_dim: int, output_dim: int, scale: float = 2.0) -> None:
        super().__init__(input_dim, output_dim)
        self.scale = scale
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def _fit(self, features, labels, affinity, generator) -> None:
        self.directions.copy_(self.scale * torch.randn(self.directions.shape, generator=generator))

    def forward(self, features):
        return features @ self.directions
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package that adds the projection `signs`, as pip lays it out."""
    (tmp_path / "other_package.py").write_text(PLUGIN)
    information = tmp_path / "other_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[deephash.projections]\nsigns = other_package:Signs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.find_plugins.cache_clear()
    yield tmp_path
    registry.find_plugins.cache_clear()
    sys.modules.pop("other_package", None)


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_every_word_names_a_class_and_back(family):
    words = registry.list_words(family)
    assert words, family
    for word in words:
        found = registry.find(family, word)
        assert found.__name__.lower() == word.replace("_", "")
        assert registry.locate(found) == (family, word)
        assert registry.resolve(registry.get_public_name(found)) is found
        assert getattr(sys.modules[registry.FAMILIES[family]], found.__name__) is found


def test_every_target_is_a_public_name():
    """A YAML names no file, save where it names a function."""
    targets = {
        target
        for path in (ROOT / "conf").rglob("*.yaml")
        for target in re.findall(r"_target_: *(deephash[\w.]+)", path.read_text())
    }
    assert len(targets) > 120
    deep = {target for target in targets if registry.resolve(target) is None}
    functions = re.compile(r"deephash\.training\.(loggers|schedules|stream)\.|deephash\.report\.sweep\.")
    assert [target for target in sorted(deep) if not functions.match(target)] == []


def test_unknown_words_are_refused():
    with pytest.raises(InvalidInputError, match=r"^name='idq'; expected one of: agh, bre, .*, sth_rbf\.$"):
        registry.find("projections", "idq")
    assert registry.resolve("os.path.join") is None
    assert registry.resolve("deephash.projections.Tensor") is None
    assert registry.resolve("deephash.io.files.write_json") is None
    with pytest.raises(AttributeError, match=r"module 'deephash.projections' has no attribute 'itc'"):
        deephash.projections.itc  # noqa: B018


def test_no_two_classes_of_a_package_have_one_name():
    for package in set(registry.FAMILIES.values()):
        names = registry.list_public_names(package)
        assert len({name.lower() for name in names}) == len(names)


def test_another_package_adds_a_method(installed):
    assert "signs" in registry.list_words("projections")
    found = registry.find("projections", "signs")
    assert found.__module__ == "other_package"
    assert registry.locate(found) == ("projections", "signs")
    assert deephash.projections.Signs is deephash.Signs is found
    hasher = deephash.Hasher(found(8, 6, scale=3.0))
    features = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    codes = hasher.fit(features).encode(features)
    hasher.save(installed / "hasher")
    assert torch.equal(deephash.load(installed / "hasher").encode(features), codes)


def test_the_scikit_learn_transformer_takes_the_method_of_another_package(installed):
    features = np.random.default_rng(0).normal(size=(40, 8))
    transformer = HashingTransformer(method="signs", bits=6, method_settings={"scale": 3.0})
    assert transformer.fit_transform(features).shape == (40, 1)
    projection = transformer.hasher_.projection
    assert type(projection) is registry.find("projections", "signs")
    assert projection.scale == 3.0
    with pytest.raises(InvalidInputError, match=r"^method=signs has no setting 'size'; it has input_dim, .*scale\.$"):
        HashingTransformer(method="signs", bits=6, method_settings={"size": 1}).fit(features)
    with pytest.raises(InvalidInputError, match=r"^method='sign'; expected one of: .*\bsigns\b"):
        HashingTransformer(method="sign", bits=6).fit(features)


def test_a_command_runs_the_method_of_another_package(installed, tmp_path):
    program = "import sys; sys.argv[0] = 'train.py'; from deephash.command_line.programs.train import main; main()"
    settings = ["method=signs", "projection.scale=1.5", "bits=16", "logger=none", "figures=false"]
    done = subprocess.run(
        [sys.executable, "-c", program, *settings, f"hydra.run.dir={tmp_path}/run"],
        env={**os.environ, "PYTHONPATH": f"{installed}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "mAP" in done.stdout
    stored = (tmp_path / "run" / "hasher" / "hasher.json").read_text()
    assert '"signs"' in stored
    assert "other_package" not in stored


def test_a_broken_package_is_named(installed):
    (installed / "other_package.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(InvalidInputError, match=r"'signs' of the installed package other-package cannot be imported"):
        registry.find("projections", "signs")


def test_choices_are_found_without_importing_them():
    code = (
        "import sys, deephash.projections as p; names = dir(p); from deephash.projections import LSH; "
        "print('ITQ' in names, 'deephash.projections.itq' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_public_classes_have_their_own_file():
    """A module of a family holds one public class of its word: what else it holds is not public."""
    for family in registry.FAMILIES:
        for word in registry.list_words(family):
            module = inspect.getmodule(registry.find(family, word))
            assert module is not None
            assert registry.read_class_name(module.__name__) is not None
