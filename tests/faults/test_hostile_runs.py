"""Reading a run builds only parts of a run, and calls nothing else that its config names."""

import os
import shutil
import sys
import types
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from deephash.code_files.run_descriptors import image_descriptor, text_descriptor
from deephash.command_line.programs.train import train
from deephash.io.run_folder import RunFolder
from deephash.io.run_sections import check_sections
from deephash.io.run_targets import STAGES, is_known, list_yaml_targets
from deephash.training.evaluate_run import SECTIONS, evaluate
from deephash.training.run_data import read_run_data
from deephash.validation import InvalidInputError

HARM = "pathlib.Path.touch"
PIXELS = "deephash.data.descriptors.Pixels"


@pytest.fixture(scope="module")
def settings(tmp_path_factory, compose_config):
    """The settings of a real run, and its folder."""
    folder = tmp_path_factory.mktemp("real") / "run"
    train(compose_config("method=lsh", "bits=8", "figures=false", "metrics.at=[10]", "user_metric=[]"), folder)
    return yaml.safe_load((folder / "config.yaml").read_text()), folder


def changed(settings, key, value):
    """The settings with one at a dotted key set, whatever lay on the way."""
    copied = yaml.safe_load(yaml.safe_dump(settings))
    *way, last = key.split(".")
    inner = copied
    for name in way:
        inner = inner[int(name)] if isinstance(inner, list) else inner.setdefault(name, {})
    inner[last] = value
    return copied


TOUCH = {"_target_": HARM, "_args_": ["made_by_a_run"]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.descriptor", TOUCH),
        ("data.descriptor", TOUCH | {"_partial_": True}),
        ("data.descriptor", {"_target_": PIXELS, "image_size": TOUCH}),
        ("data.descriptor", {"_target_": PIXELS, "_args_": [[{"inner": [TOUCH]}]], "_recursive_": False}),
        ("truth", TOUCH),
        ("ranking", TOUCH),
        ("user_metric.mine", TOUCH),
        ("protocol.stratified", TOUCH),
        ("trainer.callbacks", [TOUCH]),
        ("trainer.strategy", TOUCH),
        ("supervision", TOUCH),
        ("logger", TOUCH),
        ("logger", {"_target_": "hydra.utils.instantiate", "config": TOUCH}),
        ("train._target_", "hydra.utils.call"),
        ("projection._target_", "os.system"),
        ("projection._target_", {"a": HARM}),
        ("projection._target_", [HARM]),
        ("tune", {"parameters": {"data.descriptor._target_": [HARM]}}),
        ("tune", {"parameters": {"data[descriptor][_target_]": [HARM]}}),
        ("tune", {"parameters": {"data.descriptor": [TOUCH]}}),
    ],
)
def test_what_is_no_part_of_a_run_is_refused_by_whatever_builds_from_one(
    key, value, settings, tmp_path, compose_config, monkeypatch
):
    from deephash.cluster.run_shards import write_run_shards
    from deephash.export.read_run_features import read_run_features
    from deephash.training.run_codes import encode_run_database
    from deephash.web.demo.served_run import load_runs

    original, folder = settings
    run = tmp_path / "run"
    run.symlink_to(folder)
    hostile = yaml.safe_dump(changed(original, key, value))
    plain = (folder / "config.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    (folder / "config.yaml").write_text(hostile)
    try:
        for read in (
            lambda: image_descriptor(run),
            lambda: text_descriptor(run),
            lambda: encode_run_database(run),
            lambda: read_run_features(run),
            lambda: load_runs([run]),
            lambda: write_run_shards(run, tmp_path / "shards", 2),
            lambda: evaluate(compose_config(f"run={run}", config_name="evaluate"), tmp_path / "out"),
        ):
            with pytest.raises(InvalidInputError, match=r"config.yaml has [\w.\[\]]+=.* is not a part of a run"):
                read()
    finally:
        (folder / "config.yaml").write_text(plain)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "value", ["${oc.env:HOME}", "a ${oc.env:HOME} b", ["${seed}"], {"x": "${oc.decode:'1'}"}, "${run_folder:a,b}"]
)
def test_a_config_that_looks_something_up_here_is_refused(value, settings, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed(settings[0], "data.path", value)))
    with pytest.raises(InvalidInputError, match=r"has data.path.*=.*\$\{.*, which would be looked up on this machine"):
        RunFolder(tmp_path).read_config(to_build=False)


def test_aliases_that_grow_without_bound_are_refused(tmp_path):
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(InvalidInputError, match=r"repeats parts by alias"):
        RunFolder(tmp_path).read_config()


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "subprocess.Popen", "pathlib.Path", "builtins.open", "builtins.eval", "numpy.memmap"),
        *("logging.FileHandler", "torch.load", "torch.hub.load", "torch.utils.tensorboard.SummaryWriter"),
        *("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.callbacks.ModelCheckpoint"),
        *("hydra.utils.instantiate", "hydra.utils.get_method", "hydra._internal.utils._locate", "omegaconf.OmegaConf"),
        # Functions and other packages' classes under the name of this one, and its own that write or listen.
        *("deephash.io.files.write_text", "deephash.data.download.download", "deephash.data.arrays.Path"),
        *("deephash.training.environment.subprocess.run", "deephash.data.sift1m.SIFT1M.prepare_data"),
        *(
            "deephash.io.run_folder.RunFolder",
            "deephash.training.keep_best.KeepBest",
            "deephash.indexes.pgvector.PGVector",
        ),
        *(
            "deephash.code_files.code_writer.CodeWriter",
            "deephash.web.study.log.Log",
            "deephash.data.descriptors.gist._Filter",
        ),
        *("deephash.training.loggers.csv", "deephash.training.loggers.wandb", "lightning.Trainer"),
        *(
            "torch.nn.modules.module.Module.apply",
            "torch.optim.optimizer",
            "torch.nn.init.normal_",
            "torch.nn.Parameter",
        ),
        *("pytorch_metric_learning.losses.torch", "yaml.load", "", ".", "a", "deephash..data", None, 3),
    ],
)
def test_targets_that_are_no_parts(target):
    assert not is_known(target, "data.descriptor._target_")


@pytest.mark.parametrize(
    "target",
    [
        *("torch.optim.SGD", "torch.optim.lr_scheduler.StepLR", "torch.nn.CrossEntropyLoss"),
        "lightning.pytorch.callbacks.EMAWeightAveraging",
        *(
            pytest.param(f"pytorch_metric_learning.{name}", marks=pytest.mark.needs("pytorch_metric_learning"))
            for name in ("losses.ContrastiveLoss", "miners.BatchHardMiner", "samplers.MPerClassSampler")
        ),
        *("deephash.data.text_descriptors.HashedWords", "deephash.training.schedules.cosine"),
    ],
)
def test_targets_that_are_parts(target):
    assert is_known(target, "anywhere._target_")


def test_every_choice_of_the_yaml_files_is_known_in_its_place():
    places = {"deephash.training.loggers": "logger", "lightning.Trainer": "trainer"}
    for target in list_yaml_targets():
        place = next((key for known, key in places.items() if target.startswith(known)), "x.y")
        assert is_known(target, f"{place}._target_"), target
    package = Path(__file__).parents[2] / "deephash"
    with_contract = {".".join(path.parent.relative_to(package.parent).parts) for path in package.rglob("base.py")}
    # No run builds an index or a table from its config, and runners are known by their public names only.
    assert with_contract - STAGES == {"deephash.indexes", "deephash.integrations.databases", "deephash.training"}


def test_classes_of_the_users_own_modules_are_known_once_imported(monkeypatch, tmp_path):
    (tmp_path / "my_parts.py").write_text(
        "from subprocess import Popen\nfrom torch import nn\nfrom deephash.data.descriptors.base import Descriptor\n"
        "class Mine(Descriptor):\n    pass\nclass Plain:\n    pass\ndef act():\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_known("my_parts.Mine")
    assert "my_parts" not in sys.modules
    (tmp_path / "config.yaml").write_text("data: {descriptor: {_target_: my_parts.Mine}}")
    with pytest.raises(InvalidInputError, match=r"import its module first, or name the module in DEEPHASH_MODULES"):
        RunFolder(tmp_path).read_config()
    monkeypatch.setenv("DEEPHASH_MODULES", "my_parts")
    assert RunFolder(tmp_path).read_config().data.descriptor._target_ == "my_parts.Mine"
    assert is_known("my_parts.Plain")
    assert not is_known("my_parts.Popen")
    assert not is_known("my_parts.act")
    monkeypatch.setenv("DEEPHASH_MODULES", "my_part")
    with pytest.raises(InvalidInputError, match=r"DEEPHASH_MODULES names my_part, which cannot be imported"):
        RunFolder(tmp_path).read_config()
    monkeypatch.delitem(sys.modules, "my_parts")
    installed = types.ModuleType("installed")
    installed.__file__ = "/usr/lib/python3/dist-packages/installed.py"
    installed.Tool = type("Tool", (), {"__module__": "installed"})
    monkeypatch.setitem(sys.modules, "installed", installed)
    assert not is_known("installed.Tool")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("truth", None, "truth=None, not a part"),
        ("truth", [1], r"truth=\[1\], not a part"),
        ("data", "x", "data='x', not a part"),
        ("truth._target_", "deephash.projections.LSH", "not a subclass of Affinity"),
        ("protocol", {"_target_": "torch.nn.Linear", "in_features": 10**6, "out_features": 10**6}, "of Protocol"),
        ("ranking._target_", "deephash.affinity.Label", "not a subclass of RankingEngine"),
        ("user_metric.mine", {"_target_": "deephash.affinity.Label"}, "not a subclass of UserMetric"),
        ("user_metric.mine", 3, "user_metric.mine=3, not a part"),
        ("metrics", None, "metrics=None, not a section"),
        ("metrics.at", "abc", "metrics.at='abc', not a list of whole numbers"),
        ("metrics.radii", None, "metrics.radii=None, not a list"),
        ("choices", 3, "choices=3, not a section"),
        ("truth._args_", 3, "truth._args_, but settings have names"),
        ("truth._recursive_", "x", "truth._recursive_='x', not a bool"),
    ],
)
def test_sections_of_another_kind_are_refused_before_anything_is_built(key, value, reason, settings):
    config = OmegaConf.create(changed(settings[0], key, value))
    with pytest.raises(InvalidInputError, match=rf"config.yaml is not the config of a run \(.*{reason}") as refusal:
        check_sections(config, settings[1] / "config.yaml", ("data", "truth"))
    assert "\n" not in str(refusal.value)


def test_a_config_that_lacks_what_is_built_from_is_refused_by_its_readers(settings, tmp_path, compose_config):
    for name in ("config.yaml", "metrics.json", "split.npz"):
        (tmp_path / name).write_bytes((settings[1] / name).read_bytes())
    (tmp_path / "config.yaml").write_text("bits: 8\n")
    with pytest.raises(InvalidInputError, match="it lacks data"):
        read_run_data(RunFolder(tmp_path), RunFolder(tmp_path).read_config())
    with pytest.raises(InvalidInputError, match="it lacks data"):
        evaluate(compose_config(f"run={tmp_path}", config_name="evaluate"), tmp_path / "out")
    original = OmegaConf.create(settings[0])
    check_sections(original, tmp_path, SECTIONS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: " + "[" * 20_000, "nested more than 50 levels deep"),
        ("a: " + "[" * 20_000 + "]" * 20_000, "nested more than 50 levels deep"),
        ("a: 1\n" + "# much\n" * 50_000, "more than 262144 bytes"),
    ],
)
def test_deep_and_long_configs_are_refused_before_a_parser_takes_minutes(text, reason, tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text(text)
    monkeypatch.setattr(OmegaConf, "load", lambda *_: pytest.fail("parsed"))
    with pytest.raises(InvalidInputError, match=reason):
        RunFolder(tmp_path).read_config(to_build=False)


@pytest.mark.parametrize("name", ["config.yaml", "split.npz", "metrics.json", "hasher/hasher.json"])
def test_pipes_and_devices_in_a_run_are_not_waited_for(name, settings, tmp_path, compose_config):
    run = tmp_path / "run"
    shutil.copytree(settings[1], run)
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (run / name).unlink()
        make(run / name)
        with pytest.raises(InvalidInputError, match=rf"{name} is not readable as .* \(it is a pipe or a device"):
            evaluate(compose_config(f"run={run}", config_name="evaluate"), tmp_path / "out")
