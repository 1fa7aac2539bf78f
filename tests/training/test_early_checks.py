"""Errors that a run would meet at its end are raised before fitting; depths are limited by the database."""

import json

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from deephash.command_line import run_command as command
from deephash.command_line.programs.train import train
from deephash.data.descriptors.pixels import Pixels
from deephash.io.run_folder import RunFolder
from deephash.training.evaluate_run import evaluate
from deephash.training.fit_module import FitModule
from deephash.validation import InvalidInputError

SMALL = ("protocol=five_way_small", "method=lsh", "bits=8", "figures=false", "user_metric=[]")


@pytest.fixture
def data(tmp_path):
    """300 items with labels: a database of 150 and 15 queries, as for validation."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(300, 8)).astype(np.float32))
    np.save(tmp_path / "y.npy", rng.integers(0, 3, 300))
    return ("data=arrays", f"data.features={tmp_path / 'x.npy'}", f"data.labels={tmp_path / 'y.npy'}", *SMALL)


def test_depths_are_lowered_to_the_database(data, compose_config, tmp_path):
    ran = train(compose_config(*data, "metrics.at=[100,1000,5000]", "user_metric=[ndcg]", "user_metric.ndcg.at=[300]"),
                tmp_path / "run")  # fmt: skip
    items = ran.row["sizes"]["database"]
    assert ran.row["k"] == [100, items]
    assert {"mAP@100", f"mAP@{items}", f"nDCG@{items}"} <= set(ran.row["metrics"])
    assert ran.row["warnings"][:2] == [
        f"metrics.at=[100, 1000, 5000] exceeds the database's {items} items; lowered to {items}.",
        f"user_metric.ndcg.at=[300] exceeds the database's {items} items; lowered to {items}.",
    ]
    again, stored = evaluate(
        compose_config(f"run={tmp_path / 'run'}", "figures=false", config_name="evaluate"), tmp_path / "again"
    )
    assert again.row["metrics"] == stored["metrics"]
    joint = train(compose_config(*data, "train=joint", "train.epochs=1"), tmp_path / "joint")
    assert joint.row["k"] == [100, items]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["metrics.at=[0]"], r"metrics.at=\[0\]: k=0; expected a whole number"),
        (["metrics.at=[ten]"], r"metrics.at=\['ten'\]: k='ten'; expected a whole number"),
        (["metrics.at=10"], r"metrics.at=10; expected a list, such as metrics.at=\[2\]"),
        (["metrics.radii=[-1]"], r"metrics.radii=\[-1\]: radius=-1; expected a whole number"),
        (["metrics.radii=[1.5]"], r"metrics.radii=\[1.5\]: radius=1.5; expected a whole number"),
        (["metrics.stable_order=maybe"], r"metrics.stable_order='maybe'; expected true or false"),
        (["figures=maybe"], r"figures='maybe'; expected true or false"),
        (["truth=nearest_neighbours", "truth.k=500"], r"truth.k=500 exceeds the 1\d\d items of the database"),
        (
            ["score=validation", "protocol=literature", "protocol.queries=30"],
            r"no validation_query part; choose a prot",
        ),
        (["data.labels=null"], r"truth=label needs labels, and data=arrays have none"),
        (["data.labels=null", "truth=epsilon_ball", "method=itq_cca"], r"method=itq_cca learns from labels, and data="),
        (
            ["data.labels=null", "train=joint", "truth=epsilon_ball", "loss=classification"],
            r"loss=classification learns from labels",
        ),
        (["train=joint", "train.select_by=mAP@7"], r"train.select_by='mAP@7'; expected one of: .*mAP@10"),
        (["train=joint", "train.moves=[encoders]"], r"train.moves='encoders'; expected one of"),
        (["train=joint", "train.batch_size=0"], r"train.batch_size=0; expected a whole number"),
        (["train=joint", "train.optimizer.lr=-1"], r"train.optimizer or train.schedule: Invalid learning rate"),
        (["train=joint", "train.validate_every=0"], r"train.validate_every=0; expected a whole number"),
        (["train=joint", "train.patience=x"], r"train.patience='x'; expected a whole number"),
        (["train=joint", "trainer.precision=half"], r"trainer: Precision 'half' is invalid"),
        (["train=joint", "trainer.gradient_clip_val=x"], r"trainer: .*gradient_clip_val"),
    ],
)
def test_refused_before_the_fit(settings, words, data, compose_config, tmp_path, monkeypatch):
    monkeypatch.setattr(FitModule, "fit_hasher", lambda *given: pytest.fail("it was fitted"))
    with pytest.raises(InvalidInputError, match=words):
        train(compose_config(*data, "metrics.at=[10]", *settings), tmp_path / "run")


def test_images_without_labels_are_refused_before_they_are_described(compose_config, tmp_path, monkeypatch):
    from PIL import Image

    for number in range(4):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(Pixels, "describe", lambda *given: pytest.fail("they were described"))
    config = compose_config("data=image_folder_pixels", f"data.path={tmp_path}", f"data.cache={tmp_path}", *SMALL)
    with pytest.raises(InvalidInputError, match=r"truth=label needs labels, and data=image_folder_pixels have none"):
        train(config, tmp_path / "run")


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_a_gpu_that_is_not_there_is_one_line(data, compose_config, tmp_path, monkeypatch):
    monkeypatch.setattr("deephash.training.run_steps.build_data", lambda *given: pytest.fail("data were read"))
    with pytest.raises(InvalidInputError, match=r"^trainer: No supported gpu backend found! \(acc"):
        train(compose_config(*data, "trainer=gpu"), tmp_path / "run")


def resumed(stored, config, *overrides):
    """The config with which a run goes on, as the command line gives it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "get_overrides", lambda: list(overrides))
        return command.load_resumed(config, stored)


def test_resume_takes_other_measures_and_nothing_that_bears_on_the_fit(data, compose_config, tmp_path):
    assert HydraConfig.instance().cfg is None
    folder = tmp_path / "run"
    whole = train(compose_config(*data, "metrics.at=[10]"), folder)
    stored = RunFolder(folder).read_config()
    changes = ("resume=x", "metrics.at=[20]", "figures=true", "logger=none", "user_metric=[success]")
    config = resumed(stored, compose_config(*data, *changes[1:]), *changes)
    assert (list(config.metrics.at), list(config.metrics.radii), config.figures) == ([20], [2], True)
    with pytest.raises(InvalidInputError, match=r"resume continues with .* so bits=16 cannot be set"):
        resumed(stored, compose_config(*data), "resume=x", "bits=16")
    config.figures = False
    with pytest.raises(InvalidInputError, match=r"a complete run scored with metrics.at=\[10\], not metrics.at=\[20\]"):
        train(config, folder)
    RunFolder(folder).metrics.unlink()
    row = train(config, folder).row
    assert "mAP@20" in row["metrics"]
    assert "success@5" in row["metrics"]
    assert "mAP@10" not in row["metrics"]
    assert row["metrics"]["mAP"] == whole.row["metrics"]["mAP"]
    assert list(RunFolder(folder).read_config().metrics.at) == [20]
    assert json.loads((folder / "metrics.json").read_text())["k"] == [20]
    assert OmegaConf.to_container(RunFolder(folder).read_config().data) == OmegaConf.to_container(stored.data)
