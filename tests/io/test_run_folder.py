"""Run folders: complete files, and an error for another config."""

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from deephash.io.run_folder import RunFolder, compare_configs
from deephash.registry import FORMER_NAMES
from deephash.training.base import Runner
from deephash.validation import InvalidInputError


def config(**settings):
    return OmegaConf.create({"bits": 64, "trainer": {"devices": 1}, "method": {"iterations": 50}, **settings})


def test_open_takes_up_the_same_run(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.open(config())
    run.open(config(trainer={"devices": 2}, resume=str(tmp_path)))
    assert run.read_config() == config()
    assert not run.is_complete


def test_open_refuses_another_run(tmp_path):
    run = RunFolder(tmp_path)
    run.open(config())
    with pytest.raises(InvalidInputError, match=r"holds a run with bits=64, not bits=32; choose another hydra.run.dir"):
        run.open(config(bits=32))
    with pytest.raises(InvalidInputError, match=r"method.iterations=50, not method.iterations=5 and 1 more"):
        run.open(config(method={"iterations": 5}, seed=1))


def test_differing_settings_names_missing_ones():
    assert compare_configs(config(), config(seed=1)) == [("seed", "nothing", 1)]


def test_incomplete_and_missing_runs(tmp_path):
    with pytest.raises(InvalidInputError, match=r"does not exist; give the folder of a run"):
        RunFolder(tmp_path / "no").check_complete()
    with pytest.raises(InvalidInputError, match=r"holds no config.yaml"):
        RunFolder(tmp_path).check_complete()
    run = RunFolder(tmp_path / "run")
    run.open(config())
    with pytest.raises(InvalidInputError, match=r"interrupted run; finish it with: deephash train resume="):
        run.check_complete()
    run.config.write_text("bits: [")
    with pytest.raises(InvalidInputError, match=r"config.yaml is not readable as the config of a run"):
        run.read_config()
    run.config.write_text("")
    with pytest.raises(
        InvalidInputError, match=r"config.yaml is not readable as the config of a run \(no settings in it\)"
    ):
        run.read_config()


@pytest.mark.parametrize(("earlier", "current"), FORMER_NAMES.items())
def test_configs_of_earlier_releases_name_the_present_runners(earlier, current, tmp_path):
    run = RunFolder(tmp_path)
    run.open(config(train={"_target_": earlier}))
    assert issubclass(get_class(current), Runner)
    assert run.read_config().train._target_ == current
    run.open(config(train={"_target_": current}))
