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
from deephash.command_line.plugins import GROUPS
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


def add_package(folder, name, entry_points, source=""):
    """Install a package of one module, as pip lays it out."""
    (folder / f"{name}.py").write_text(source)
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(entry_points)
    registry.find_plugins.cache_clear()


def test_an_entry_point_names_a_package_that_re_exports_the_class(installed):
    """The class is defined in another module than the entry point names."""
    add_package(installed, "other_package", "[deephash.projections]\nsigns = other_package:Signs\n")
    (installed / "other_package.py").unlink()
    (installed / "other_package").mkdir()
    (installed / "other_package" / "__init__.py").write_text("from other_package.parts import Signs\n")
    (installed / "other_package" / "parts.py").write_text(PLUGIN)
    try:
        assert registry.locate(deephash.Signs) == ("projections", "signs")
        assert "Signs" in dir(deephash)
        assert "Signs" in dir(deephash.projections)
    finally:
        sys.modules.pop("other_package.parts", None)


def test_a_hasher_of_a_missing_package_names_it(installed):
    features = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    deephash.Hasher(deephash.Signs(8, 6)).fit(features).save(installed / "hasher")
    (installed / "other_package-1.0.dist-info" / "entry_points.txt").write_text("")
    registry.find_plugins.cache_clear()
    with pytest.raises(InvalidInputError, match=r"needs 'signs' among the projections, which .*; install the package"):
        deephash.load(installed / "hasher")


def test_an_index_of_another_package_is_saved_and_loaded(installed):
    source = "from deephash.indexes import Flat, Index\n\n\nclass Slow(Index):\n"
    source += "    def __init__(self, codes, bits, extra=1):\n        super().__init__(codes, bits)\n"
    source += "        self.extra, self.flat = extra, Flat(codes, bits)\n\n"
    source += "    def _search(self, queries, k):\n        return self.flat._search(queries, k)\n"
    add_package(installed, "slow_package", "[deephash.indexes]\nslow = slow_package:Slow\n", source)
    codes = torch.arange(20, dtype=torch.uint8)[:, None]
    index = deephash.index(codes, "slow", extra=3)
    assert index.kind == "slow"
    index.save(installed / "index")
    loaded = deephash.load_index(installed / "index")
    assert (type(loaded), loaded.extra) == (type(index), 3)
    assert torch.equal(loaded.search(codes[:2], k=1)[1].flatten(), torch.tensor([0, 1]))
    (installed / "slow_package-1.0.dist-info" / "entry_points.txt").write_text("")
    registry.find_plugins.cache_clear()
    with pytest.raises(InvalidInputError, match=r"index cannot be loaded: kind='slow'; .*; install the package that"):
        deephash.load_index(installed / "index")


def test_a_word_or_a_class_name_is_used_once(installed):
    lines = "signs = second_package:Mine\nsecond = second_package:Signs\nitq = second_package:Other\n"
    lines += "mine = second_package:ITQ\nnumber = second_package:Number\nfine = second_package:Fine\n"
    source = "from other_package import Signs as First\n\n\nclass Fine(First):\n    pass\n\n\nclass Number:\n    pass\n"
    add_package(installed, "second_package", f"[deephash.projections]\n{lines}", source)
    for word, message in (
        ("signs", r"second-package is second_package:Mine, and 'signs' of other-package is other_package:Signs; two"),
        ("second", r"second-package is second_package:Signs, and 'signs' of other-package is other_package:Signs; two"),
        ("mine", r"second-package is second_package:ITQ, and deephash itself has a choice of that word or class name"),
        ("number", r"is second_package:Number, which is not a subclass of deephash.projections.Projection"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            registry.find("projections", word)
    assert registry.find("projections", "itq").__module__ == "deephash.projections.itq"
    assert deephash.ITQ.__module__ == "deephash.projections.itq"
    assert registry.find("projections", "fine") is deephash.Fine
    assert registry.locate(deephash.Fine) == ("projections", "fine")
    sys.modules.pop("second_package")


@pytest.mark.ci
def test_a_command_trains_with_the_loss_and_the_encoder_of_another_package(installed, tmp_path):
    source = """
from deephash.encoders import Encoder
from deephash.losses import Loss
from deephash.projections import LSH


class Scaled(Encoder):
    def __init__(self, input_dim: int, factor: float = 2.0) -> None:
        super().__init__(input_dim, input_dim)
        self.factor = factor

    def forward(self, features):
        return features * self.factor

    def fit(self, features, generator):
        return self


class Spread(Loss):
    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, batch):
        return (1 - batch.codes.abs()).abs().pow(self.power).mean()
"""
    points = "[deephash.encoders]\nscaled = third_package:Scaled\n[deephash.losses]\nspread = third_package:Spread\n"
    points += "[deephash.projections]\nbroken = no_such_module:Broken\ncsq = third_package:Spread\n"
    add_package(installed, "third_package", points, source)
    program = "import sys; sys.argv[0] = 'train.py'; from deephash.command_line.programs.train import main; main()"
    settings = ["method=signs", "encoder=scaled", "encoder.factor=3", "train=joint", "loss=[spread,ap]", "bits=8"]
    settings += ["loss.spread.power=1.5", "loss.spread.weight=.5", "train.epochs=1", "logger=none", "figures=false"]
    done = subprocess.run(
        [sys.executable, "-c", program, *settings, f"hydra.run.dir={tmp_path}/run"],
        env={**os.environ, "PYTHONPATH": f"{installed}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "'broken' of the installed package third-package cannot be imported" in done.stderr
    assert "method=csq of the installed package third-package is left out" in done.stderr
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "deephash.losses.Spread" in config
    assert "power: 1.5" in config
    assert '"factor": 3' in (tmp_path / "run" / "hasher" / "hasher.json").read_text()


def test_every_family_of_a_config_group_is_open_to_other_packages():
    """A group whose YAML files name classes of a family takes the family's entry points."""
    families = {package: family for family, package in registry.FAMILIES.items()}
    pairs = {
        (families[package], path.parent.name)
        for path in (ROOT / "conf").glob("*/*.yaml")
        for package in re.findall(r"^ *_target_: *(deephash[\w.]+)\.\w+$", path.read_text(), re.MULTILINE)[:1]
        if package in families
    }
    closed = {"index", "train", "trainer", "initial", "experiment", "tune"}  # Not chosen by a word of the command line.
    nested = {"bit_allocations", "descriptors", "text_descriptors", "threshold_searches"}  # Parts of other choices.
    pairs = {pair for pair in pairs if pair[1] not in closed and pair[0] not in nested}
    assert pairs == {(family, group) for family, group, _ in GROUPS}


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
