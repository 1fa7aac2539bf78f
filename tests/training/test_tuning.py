"""Settings chosen on validation queries: candidates, the choice, independence of test queries, resuming."""

import json
import shutil

import pytest
from omegaconf import OmegaConf, open_dict

from deephash.command_line.programs.train import train
from deephash.io.files import read_json
from deephash.io.run_folder import RunFolder
from deephash.report.summary import list_settings
from deephash.training import tuning
from deephash.training.tuning import choose_best, list_candidates, set_values
from deephash.validation import InvalidInputError

SETTINGS = ("method=sklsh", "bits=16", "protocol=five_way_small", "metrics.at=[10]", "figures=false")
# Random features of a kernel far too narrow, and of one that fits the digits.
GRID = {"parameters": {"projection.gamma": [1.0, 0.01]}}


@pytest.fixture
def compose_tuned(compose_config):
    def compose(*overrides, **tune):
        config = compose_config(*SETTINGS, *overrides)
        with open_dict(config):
            config.tune = {**GRID, **tune}
        return config

    return compose


@pytest.fixture
def tuned(compose_tuned, tmp_path):
    return train(compose_tuned(), tmp_path / "run")


def record(folder):
    return json.loads((folder / "tune.json").read_text())


def test_the_best_on_validation_queries_is_chosen(tuned, compose_config, tmp_path):
    tried = record(tuned.folder)
    scores = [entry["score"] for entry in tried["candidates"]]
    assert [entry["values"]["projection.gamma"] for entry in tried["candidates"]] == [1.0, 0.01]
    assert scores[1] > scores[0] + 0.02
    assert all(entry["seconds"] > 0 and "AUPRC_micro" in entry["metrics"] for entry in tried["candidates"])
    assert tuned.row["tuned"] == tried["chosen"] == {"projection.gamma": 0.01}
    assert ("tuned", "projection.gamma=0.01") in list_settings(tuned.row)
    # What is scored is a plain run with the chosen value, and each score that of a plain run on validation queries.
    plain = train(compose_config(*SETTINGS, "projection.gamma=0.01"), tmp_path / "plain")
    assert tuned.row["metrics"] == plain.row["metrics"]
    validation = train(compose_config(*SETTINGS, "projection.gamma=1.0", "score=validation"), tmp_path / "validation")
    assert tried["candidates"][0]["metrics"] == {
        name: value for name, value in validation.row["metrics"].items() if name in tried["candidates"][0]["metrics"]
    }


def test_another_metric_may_choose(compose_tuned, tmp_path):
    result = train(compose_tuned(metric="precision@10"), tmp_path / "run")
    tried = record(result.folder)
    assert tried["metric"] == "precision@10"
    assert [entry["score"] for entry in tried["candidates"]] == [
        entry["metrics"]["precision@10"] for entry in tried["candidates"]
    ]
    with pytest.raises(InvalidInputError, match=r"tune.metric='MAP'; expected one of: .*mAP"):
        train(compose_tuned(metric="MAP"), tmp_path / "other")


def test_candidates_that_were_tried_are_not_tried_again(tuned, compose_tuned, tmp_path, monkeypatch):
    stored = record(tuned.folder)
    del stored["sha256"]
    cut = {**stored, "chosen": None, "candidates": stored["candidates"][:1]}
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "tune.json").write_text(json.dumps(cut))
    shutil.copy(tuned.folder / "config.yaml", tmp_path / "cut")
    tried = []
    original = tuning.score_on_validation
    monkeypatch.setattr(tuning, "score_on_validation", lambda *given: tried.append(given) or original(*given))
    resumed = train(compose_tuned(), tmp_path / "cut")
    assert len(tried) == len(stored["candidates"]) - 1
    assert resumed.row["metrics"] == tuned.row["metrics"]
    assert [e["score"] for e in record(tmp_path / "cut")["candidates"]] == [e["score"] for e in stored["candidates"]]


def test_a_candidate_that_cannot_be_fitted_is_recorded(compose_tuned, tmp_path):
    result = train(compose_tuned(parameters={"projection.gamma": [-1.0, 0.01]}), tmp_path / "run")
    failed, _ = record(result.folder)["candidates"]
    assert failed["score"] is None
    assert "gamma" in failed["error"]
    assert result.row["tuned"] == {"projection.gamma": 0.01}
    with pytest.raises(InvalidInputError, match=r"0 of 1 candidates of tune could be scored; the first error: .*gamma"):
        train(compose_tuned("projection.neighbour=7", parameters={"projection.gamma": [-1.0]}), tmp_path / "none")


@pytest.mark.parametrize(
    ("overrides", "tune", "message"),
    [
        (
            (),
            {"parameters": {"projection.width": [1]}},
            r"which is not a setting of this run; its settings there are: ne",
        ),
        (
            (),
            {"parameters": {"seed": [1, 2]}},
            r"section of seed in tune.parameters='seed'; expected one of: encoder, ",
        ),
        ((), {"parameters": {"protocol.train": [1, 2]}}, r"in tune.parameters='protocol'; expected one of: encoder, "),
        ((), {"parameters": {"projection.gamma": 1.0}}, r"projection.gamma=1.0; expected a list of values to try"),
        ((), {"parameters": {}}, r"tune.parameters=\{\}; expected config keys with lists of values"),
        ((), {"samples": 0}, r"tune.samples=0"),
        (("protocol=literature",), {}, r"validation queries, and protocol=literature has none; .*protocol=five_way"),
    ],
)
def test_what_cannot_be_tuned_is_refused(compose_tuned, tmp_path, overrides, tune, message):
    with pytest.raises(InvalidInputError, match=message):
        train(compose_tuned(*overrides, **tune), tmp_path / "run")


def test_grid_in_its_order_and_samples_of_it():
    grid = OmegaConf.create({"parameters": {"projection.a": [1, 2], "quantizer": {"b": ["x", "y", "z"]}}})
    points = list_candidates(grid, seed=0)
    assert points[:4] == [
        {"projection.a": 1, "quantizer.b": "x"},
        {"projection.a": 1, "quantizer.b": "y"},
        {"projection.a": 1, "quantizer.b": "z"},
        {"projection.a": 2, "quantizer.b": "x"},
    ]
    some = list_candidates(OmegaConf.merge(grid, {"samples": 3}), seed=1)
    assert len(some) == 3
    assert [points.index(point) for point in some] == sorted(points.index(point) for point in some)
    assert some == list_candidates(OmegaConf.merge(grid, {"samples": 3}), seed=1)
    assert any(some != list_candidates(OmegaConf.merge(grid, {"samples": 3}), seed=seed) for seed in range(2, 6))
    assert list_candidates(OmegaConf.merge(grid, {"samples": 60}), seed=1) == points


def test_values_go_into_a_copy(compose_config):
    config = compose_config("method=itq")
    assert set_values(config, {"projection.iterations": 3}).projection.iterations == 3
    assert config.projection.iterations == 50


def test_first_of_equals():
    entries = [{"values": {"a": a}, "score": score} for a, score in [(1, None), (2, 0.5), (3, 0.5), (4, 0.4)]]
    assert choose_best(entries) == {"a": 2}


def test_joint_training_is_tuned_too(compose_config, tmp_path):
    settings = ("method=itq", "train=joint", "relaxation=tanh", "tune=joint", "protocol=five_way_small", "bits=8")
    config = compose_config(*settings, "train.epochs=4", "metrics.at=[10]", "figures=false")
    config.tune.parameters = {"train.optimizer.lr": [1e-9, 0.1]}
    run = RunFolder(train(config, tmp_path / "run").folder)
    told = read_json(run.tuning, "tuned values")
    standing, moving = (entry["score"] for entry in told["candidates"])
    assert moving > standing + 0.02
    assert told["chosen"] == {"train.optimizer.lr": 0.1}
    assert read_json(run.metrics, "a row")["training"]["best"] == pytest.approx(moving, abs=1e-9)
