"""The main job as a library call: contents of the run folder, resuming, scoring again."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from omegaconf import OmegaConf

from deephash.command_line.programs.train import train
from deephash.data.protocols.base import Split
from deephash.io.run_folder import RunFolder
from deephash.training import run_steps
from deephash.training.evaluate_run import evaluate
from deephash.validation import InvalidInputError

NONE_DRAWN = "figures=false"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compose_config):
    """One finished run of ITQ on the 5,000 MNIST images."""
    folder = tmp_path_factory.mktemp("runs") / "itq"
    return train(compose_config("method=itq", "bits=24", "metrics.at=[10,100]"), folder)


def test_result_row(finished):
    row = finished.row
    names = {name: row[name] for name in ("method", "quantizer", "data", "protocol", "truth", "bits", "k", "seed")}
    assert names == {
        "method": "itq",
        "quantizer": "sbq",
        "data": "mnist5k",
        "protocol": "literature",
        "truth": "label",
        "bits": 24,
        "k": [10, 100],
        "seed": 0,
    }
    assert row["sizes"] == {"train": 4000, "query": 1000, "database": 4000}
    # Digits by 24 bits of ITQ: far above the chance of .1, and rising towards the top of the list.
    assert 0.3 < row["metrics"]["mAP"] < 0.6
    assert row["metrics"]["precision@10"] > row["metrics"]["precision@100"] > row["metrics"]["mAP"]
    assert row["metrics"]["mAP_worst"] < row["metrics"]["mAP"] < row["metrics"]["mAP_best"]


def test_folder_holds_the_run(finished):
    run = RunFolder(finished.folder)
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert files >= {
        "config.yaml",
        "split.npz",
        "hasher/hasher.json",
        "hasher/weights.safetensors",
        "metrics.json",
        "per_query.parquet",
        "pr_curve.png",
        "neighbours.png",
        "bits.png",
        "environment.json",
    }
    assert not [name for name in files if name.endswith((".partial", ".pkl", ".pickle", ".ckpt"))]
    assert run.read_row() == json.loads(json.dumps(finished.row))
    assert Split.load(run.split).hash == finished.row["split"]
    per_query = pl.read_parquet(run.path / "per_query.parquet")
    assert len(per_query) == 1000
    assert per_query["query"].to_list() == Split.load(run.split).role("query").tolist()
    assert per_query["mAP"].mean() == pytest.approx(finished.row["metrics"]["mAP"], abs=1e-12)
    environment = json.loads((run.path / "environment.json").read_text())
    assert {"python", "packages", "git", "threads", "command"} <= environment.keys()


def test_complete_run_is_not_run_again(finished, compose_config, monkeypatch):
    monkeypatch.setattr(run_steps, "build_data", lambda *_: pytest.fail("the run was run again"))
    again = train(compose_config("method=itq", "bits=24", "metrics.at=[10,100]"), finished.folder)
    assert again.row == json.loads(json.dumps(finished.row))


def test_other_run_in_the_same_folder_is_refused(finished, compose_config):
    with pytest.raises(InvalidInputError, match="holds a run with bits=24, not bits=32"):
        train(compose_config("method=itq", "bits=32", "metrics.at=[10,100]"), finished.folder)


def test_same_seed_gives_the_same_run(finished, compose_config, tmp_path):
    again = train(compose_config("method=itq", "bits=24", "metrics.at=[10,100]"), tmp_path / "again")
    assert again.row["metrics"] == finished.row["metrics"]
    for name in ("hasher/weights.safetensors", "per_query.parquet", "pr_curve.png", "neighbours.png"):
        assert (again.folder / name).read_bytes() == (finished.folder / name).read_bytes(), name


def test_other_seed_gives_another_split(finished, compose_config, tmp_path):
    other = train(
        compose_config("method=itq", "bits=24", "metrics.at=[10,100]", "seed=1", NONE_DRAWN), tmp_path / "other"
    )
    assert other.row["split"] != finished.row["split"]
    assert other.row["metrics"]["mAP"] != finished.row["metrics"]["mAP"]


def test_resumes_after_the_fit(finished, compose_config, tmp_path, monkeypatch):
    interrupted = tmp_path / "interrupted"
    shutil.copytree(finished.folder, interrupted)
    (interrupted / "metrics.json").unlink()
    monkeypatch.setattr("deephash.hashers.hasher.Hasher.fit", lambda *_, **__: pytest.fail("fitted again"))
    resumed = train(RunFolder(interrupted).read_config(), interrupted)
    assert resumed.row["metrics"] == finished.row["metrics"]
    assert resumed.row["seconds"]["fit"] == finished.row["seconds"]["fit"]


def test_resumes_with_sizes_that_the_fit_lowered(compose_config, tmp_path):
    settings = (
        "method=agh",
        "projection.anchors=1200",
        "protocol=five_way_small",
        "bits=8",
        "metrics.at=[10]",
        NONE_DRAWN,
    )
    whole = train(compose_config(*settings), tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    assert train(RunFolder(tmp_path / "run").read_config(), tmp_path / "run").row["metrics"] == whole.row["metrics"]


def test_resumes_before_the_fit(finished, tmp_path):
    interrupted = tmp_path / "interrupted"
    interrupted.mkdir()
    shutil.copy(finished.folder / "config.yaml", interrupted)
    shutil.copy(finished.folder / "split.npz", interrupted)
    resumed = train(RunFolder(interrupted).read_config(), interrupted)
    assert resumed.row["metrics"] == finished.row["metrics"]


def test_evaluation_gives_the_same_figures(finished, compose_config, tmp_path):
    config = compose_config(f"run={finished.folder}", config_name="evaluate")
    result, stored = evaluate(config, tmp_path / "again")
    assert stored is not None
    assert result.row["metrics"] == stored["metrics"] == finished.row["metrics"]
    assert (tmp_path / "again" / "per_query.parquet").read_bytes() == (
        finished.folder / "per_query.parquet"
    ).read_bytes()


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_evaluation_with_another_engine_gives_the_same_figures(finished, compose_config, tmp_path, engine):
    config = compose_config(f"run={finished.folder}", f"ranking={engine}", config_name="evaluate")
    result, _ = evaluate(config, tmp_path / "again")
    assert result.row["metrics"] == finished.row["metrics"]


def test_evaluation_with_another_truth(finished, compose_config, tmp_path):
    config = compose_config(
        f"run={finished.folder}",
        "truth=nearest_neighbours",
        "metrics.at=[50]",
        "metrics.stable_order=true",
        config_name="evaluate",
    )
    result, stored = evaluate(config, tmp_path / "other")
    assert stored is None
    assert result.row["truth"] == "nearest_neighbours"
    assert result.row["metrics"]["mAP"] != finished.row["metrics"]["mAP"]
    assert "mAP@50" in result.row["metrics"]
    assert any("stable" in name for name in result.row["metrics"])


def test_evaluation_of_another_split_warns_of_queries_trained_on(finished, compose_config, tmp_path):
    config = compose_config(f"run={finished.folder}", "seed=5", config_name="evaluate")
    result, stored = evaluate(config, tmp_path / "other")
    assert stored is None
    assert any("fitted on" in warning and "too high" in warning for warning in result.row["warnings"])


def test_evaluation_refuses_data_of_another_dimension(finished, compose_config, tmp_path):
    np.save(tmp_path / "features.npy", np.zeros((50, 7), np.float32))
    config = compose_config(
        f"run={finished.folder}",
        "data=arrays",
        f"data.features={tmp_path / 'features.npy'}",
        "protocol.queries=10",
        "protocol=literature",
        config_name="evaluate",
    )
    with pytest.raises(
        InvalidInputError, match=r"data=arrays has features of 7 dimensions; the hasher in .* takes 784"
    ):
        evaluate(config, tmp_path / "other")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["bits=0"], "bits=0; expected a whole number of at least 1"),
        (["bits=many"], "bits='many'; expected a whole number of at least 1"),
        (["method=pcah", "bits=1000"], "1000 projections exceed the 784 directions PCAH can give"),
        (["seed=-1"], "seed=-1; expected a whole number from 0"),
        (["score=training"], "score='training'; expected one of: test, validation"),
        (["score=validation"], "no validation_query part; choose a protocol with this part"),
        (["protocol.queries=6000"], "6000"),
    ],
)
def test_wrong_settings_are_refused(compose_config, tmp_path, overrides, message):
    with pytest.raises(InvalidInputError, match=message):
        train(compose_config(*overrides), tmp_path / "run")


def test_validation_queries_are_scored_apart(compose_config, tmp_path):
    settings = ("method=pcah", "bits=16", "protocol=five_way_small", "metrics.at=[10]", NONE_DRAWN)
    test = train(compose_config(*settings), tmp_path / "test")
    validation = train(compose_config(*settings, "score=validation"), tmp_path / "validation")
    assert test.row["split"] == validation.row["split"]
    assert "validation_query" in validation.row["sizes"]
    assert test.row["metrics"]["mAP"] != validation.row["metrics"]["mAP"]


def test_config_is_stored_resolved(finished):
    config = OmegaConf.load(finished.folder / "config.yaml")
    assert "${" not in OmegaConf.to_yaml(config)
