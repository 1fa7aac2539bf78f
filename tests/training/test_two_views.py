"""Runs on two views as library calls: four directions against plain NumPy, missing views, and the two protocols."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deephash.codes import unpack
from deephash.command_line.programs.train import train
from deephash.hashers.loading import load
from deephash.io.run_folder import RunFolder
from deephash.projections.paired.cvh import CVH
from deephash.report.sweep import report_sweep
from deephash.training import fit_runner
from deephash.training.building import build_data
from deephash.training.evaluate_run import evaluate
from deephash.training.fitting import describe_fit_size
from deephash.validation import InvalidInputError

ROOT = Path(__file__).resolve().parents[2]
DIRECTIONS = ("image_to_text", "text_to_image", "image_to_image", "text_to_text")
SETTINGS = ("method=cvh", "bits=4", "metrics.at=[10]", "protocol=literature", "protocol.queries=60")


def write_pairs(folder, missing=False):
    draw = np.random.default_rng(0)
    labels = np.arange(300) % 4
    common = draw.normal(size=(4, 5))[labels] + 0.8 * draw.normal(size=(300, 5))
    for place, (name, dimension) in enumerate((("image", 9), ("text", 6))):
        features = common @ draw.normal(size=(5, dimension)) + draw.normal(size=(300, dimension))
        if missing:
            features[np.arange(300) % 20 == 3 + place] = np.nan
        np.save(folder / f"{name}.npy", features.astype(np.float32))
    np.save(folder / "labels.npy", labels)
    texts = np.array([f"<b>article {row}</b> & more" for row in range(300)])
    np.save(folder / "texts.npy", texts)
    files = f"data.features=[{folder / 'image.npy'},{folder / 'text.npy'}]"
    return ("data=paired_arrays", files, f"data.labels={folder / 'labels.npy'}", f"data.texts={folder / 'texts.npy'}")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def finished(pairs, compose_config, tmp_path_factory):
    return train(compose_config(*pairs, *SETTINGS), tmp_path_factory.mktemp("runs") / "cvh")


def expected_ap(distances, relevant):
    """Mean AP over all orders of tied items, position by position."""
    total, before, relevant_before = 0.0, 0, 0
    for distance in np.unique(distances):
        tied = relevant[distances == distance]
        t, r = len(tied), int(tied.sum())
        for place in range(1, t + 1):
            others = (place - 1) * (r - 1) / (t - 1) if t > 1 else 0
            total += r / t * (relevant_before + 1 + others) / (before + place)
        before, relevant_before = before + t, relevant_before + r
    return total / relevant_before


def expected_map(result, codes_of_database=None):
    """mAP of each direction from the saved hasher, with nothing of the ranking or the metrics."""
    config = RunFolder(result.folder).read_config()
    data = build_data(config)
    data.prepare_data()
    data.setup()
    hasher, scores = load(RunFolder(result.folder).hasher), {}
    queries, database = data.part("query"), data.part("database")
    for direction in DIRECTIONS:
        asking, searched = direction.split("_to_")
        one, other = queries.features.rows(asking), database.features.rows(searched)
        asked = unpack(hasher.view(asking).encode(queries.features.of(asking)), 4).numpy()
        found = unpack(hasher.view(searched).encode(database.features.of(searched)), 4).numpy()
        if codes_of_database is not None:
            found = codes_of_database
        labels, own = database.labels[other].numpy(), queries.labels[one].numpy()
        aps = [expected_ap((found != code).sum(1), labels == label) for code, label in zip(asked, own, strict=True)]
        scores[direction] = np.mean(aps)
    return scores


def test_four_directions_are_those_of_plain_numpy(finished):
    metrics, expected = finished.row["metrics"], expected_map(finished)
    for direction in DIRECTIONS:
        assert metrics[f"{direction}/mAP"] == pytest.approx(expected[direction], abs=1e-9)
    across = (expected["image_to_text"] + expected["text_to_image"]) / 2
    assert metrics["mAP"] == pytest.approx(across, abs=1e-9)
    assert metrics["mAP"] > 0.35  # chance: a quarter
    assert finished.row["feature_dim"] == {"image": 9, "text": 6}
    assert finished.row["modality_bias"]["database_share"] == {"image": 0.5, "text": 0.5}


def test_the_size_of_a_fit_names_the_views(pairs, compose_config):
    data = build_data(compose_config(*pairs, *SETTINGS))
    data.setup()
    assert describe_fit_size(data) == "240 items of 9 (image) and 6 (text) dimensions"


def test_missing_views_are_neither_asked_nor_found(compose_config, tmp_path):
    data = write_pairs(tmp_path, missing=True)
    result = train(compose_config(*data, *SETTINGS, "figures=false"), tmp_path / "run")
    expected = expected_map(result)
    for direction in DIRECTIONS:
        assert result.row["metrics"][f"{direction}/mAP"] == pytest.approx(expected[direction], abs=1e-9)
    import polars

    table = polars.read_parquet(result.folder / "per_query.parquet")
    asked = {name: set(part["query"].to_list()) for (name,), part in table.group_by("direction")}
    assert not any(row % 20 == 3 for row in asked["image_to_text"])
    assert not any(row % 20 == 4 for row in asked["text_to_image"])


def test_evaluation_gives_the_same_figures(finished, compose_config, tmp_path):
    config = compose_config(f"run={finished.folder}", config_name="evaluate")
    again, stored = evaluate(config, tmp_path / "again")
    assert again.row["metrics"] == stored["metrics"] == finished.row["metrics"]
    assert again.row["modality_bias"] == finished.row["modality_bias"]


def test_the_page_of_neighbours_is_whole_and_escaped(finished):
    page = (finished.folder / "neighbours.html").read_text(encoding="utf-8")
    assert "image → text" in page
    assert "text → image" in page
    assert page.count('class="card good"') + page.count('class="card bad"') == 2 * 8 * 10
    assert "&lt;b&gt;article" in page
    assert "<b>article" not in page
    assert "http" not in page


def test_an_interrupted_run_goes_on_after_its_fit(finished, compose_config, tmp_path, monkeypatch):
    class Killed(BaseException):
        """What no handler of errors catches."""

    def killed(*arguments):
        raise Killed

    config = RunFolder(finished.folder).read_config()
    score = fit_runner.score
    monkeypatch.setattr(fit_runner, "score", killed)
    with pytest.raises(Killed):
        train(config, tmp_path / "run")
    monkeypatch.setattr(fit_runner, "score", score)
    monkeypatch.setattr(CVH, "_fit", killed)  # What was fitted is not fitted again.
    assert train(config, tmp_path / "run").row["metrics"] == finished.row["metrics"]


def test_a_sweep_has_its_table_of_every_direction(pairs, compose_config, tmp_path, capsys):
    for bits in (2, 4):
        config = compose_config(*pairs, *SETTINGS, f"bits={bits}", "figures=false")
        train(config, tmp_path / f"{bits}")
    report_sweep(tmp_path, "image_to_text/mAP")
    assert "image_to_text/mAP: paired_arrays, literature" in capsys.readouterr().out
    told = json.loads((tmp_path / "sweep.json").read_text())
    assert {group["bits"] for group in told["groups"] if group["metric"] == "text_to_image/mAP"} == {2, 4}


def test_tuning_chooses_by_both_directions(pairs, compose_config, tmp_path):
    sizes = ("queries=40", "validation_queries=40", "train=100", "validation_database=60", "database=rest")
    protocol = ("protocol=five_way", *(f"protocol.{size}" for size in sizes))
    grid = "+tune={parameters:{projection.regularisation:[0.0001,10.0]}}"
    result = train(compose_config(*pairs, *SETTINGS[:3], *protocol, grid, "figures=false"), tmp_path / "run")
    tried = json.loads(RunFolder(result.folder).tuning.read_text())["candidates"]
    assert [sorted(entry["metrics"])[0] for entry in tried] == ["AUPRC_macro"] * 2
    best = max(tried, key=lambda entry: entry["score"])
    assert result.row["tuned"] == best["values"]
    for entry in tried:
        across = (entry["metrics"]["image_to_text/mAP"] + entry["metrics"]["text_to_image/mAP"]) / 2
        assert entry["score"] == pytest.approx(across)


def test_joint_training_starts_at_the_fit_and_is_never_below_it(pairs, compose_config, tmp_path):
    joint = ("train=joint", "loss=ap", "train.epochs=4", "train.validate_every=2", "relaxation=tanh", "figures=false")
    harmful = train(compose_config(*pairs, *SETTINGS, *joint, "train.optimizer.lr=30"), tmp_path / "harmful")
    told = json.loads(RunFolder(harmful.folder).history.read_text())
    scores = [entry["validation"]["mAP"] for entry in told["epochs"]]
    assert [entry["epoch"] for entry in told["epochs"]] == [0, 2, 4]
    assert harmful.row["training"]["start"] == scores[0]
    assert harmful.row["training"]["best"] == max(scores)
    best = load(RunFolder(harmful.folder).hasher).state_dict()
    kept = load(RunFolder(harmful.folder).best).state_dict()
    assert all(torch.equal(best[name], kept[name]) for name in best)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("method=itq",), "method=itq takes one view, and the data have 2: image, text; choose one of them"),
        (("bits=12",), "of the larger view that CVH can give"),
        (("metrics.database_codes=mine",), "metrics.database_codes='mine'; expected one of: functions, learnt"),
        (("metrics.database_codes=learnt",), "CVH learnt no codes of its training items"),
        (("metrics.database_codes=learnt", "method=cmfh", "quantizer=mhq"), "MHQ uses others; choose quantizer=sbq"),
        (("metrics.database_codes=learnt", "train=joint", "loss=ap"), "which joint training makes obsolete"),
        (
            ("metrics.database_codes=learnt", "method=cmfh", "protocol.train=200", "protocol.search_train=true"),
            "40 of the 240 items of the database have no learnt code",
        ),
    ],
)
def test_what_cannot_be_is_refused(overrides, line, pairs, compose_config, tmp_path):
    with pytest.raises(InvalidInputError, match="^(?s:.*)" + line.replace("(", r"\(")):
        train(compose_config(*pairs, *SETTINGS, *overrides, "figures=false"), tmp_path / "run")
    assert not RunFolder(tmp_path / "run").hasher.exists()


def test_methods_of_two_views_refuse_one(compose_config, tmp_path):
    with pytest.raises(InvalidInputError, match="method=cvh learns from items in two views, and the data have one"):
        train(compose_config("method=cvh", "data=mnist5k", "bits=8", "figures=false"), tmp_path)


@pytest.fixture
def learnt(pairs, compose_config, tmp_path, monkeypatch):
    """A run whose fit learns its items' codes from their labels, as some do: each class has a code of its own."""
    fit = CVH._fit

    def fit_and_learn(self, views, labels, affinity, generator):
        fit(self, views, labels, affinity, generator)
        class_codes = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
        self.learnt_codes = class_codes[labels]

    monkeypatch.setattr(CVH, "_fit", fit_and_learn)
    config = compose_config(*pairs, *SETTINGS, "metrics.database_codes=learnt", "figures=false")
    return train(config, tmp_path / "learnt")


def test_a_database_by_learnt_codes_is_another_protocol(learnt, finished, compose_config, tmp_path, capsys):
    stored = np.load(RunFolder(learnt.folder).hasher / "learnt_codes.npz")
    data = build_data(RunFolder(learnt.folder).read_config())
    data.setup()
    assert stored["ids"].tolist() == data.ids("database").tolist()
    bits = unpack(torch.from_numpy(stored["codes"]), 4).numpy()
    expected = expected_map(learnt, bits)
    for direction in DIRECTIONS:
        assert learnt.row["metrics"][f"{direction}/mAP"] == pytest.approx(expected[direction], abs=1e-9)
    assert learnt.row["database_codes"] == "learnt"
    assert learnt.row["metrics"]["mAP"] != finished.row["metrics"]["mAP"]
    # The saved run gives the figures again, and those of the other protocol when asked.
    again, row = evaluate(compose_config(f"run={learnt.folder}", config_name="evaluate"), tmp_path / "again")
    assert again.row["metrics"] == row["metrics"] == learnt.row["metrics"]
    functions = compose_config(f"run={learnt.folder}", "metrics.database_codes=functions", config_name="evaluate")
    other, row = evaluate(functions, tmp_path / "functions")
    assert row is None
    assert other.row["metrics"] == finished.row["metrics"]
    # Resumed after its fit, the run still knows them.
    RunFolder(learnt.folder).metrics.unlink()
    assert train(RunFolder(learnt.folder).read_config(), learnt.folder).row["metrics"] == learnt.row["metrics"]


def test_tables_never_mix_the_protocols(learnt, pairs, compose_config, capsys):
    sweep = learnt.folder.parent
    train(compose_config(*pairs, *SETTINGS, "figures=false"), sweep / "functions")
    report_sweep(sweep)
    out = capsys.readouterr().out
    assert "mAP: paired_arrays, literature, label truth, test queries\n" in out
    assert "mAP: paired_arrays, literature, label truth, test queries, database by learnt codes\n" in out


@pytest.mark.ci
def test_two_processes_give_the_figures_of_one(pairs, compose_config, tmp_path):
    """Learnt codes reach the process that did not fit, and items of either view are shared out and put together."""
    settings = (*pairs, *SETTINGS, "method=cmfh", "metrics.database_codes=learnt", "figures=false", "logger=none")
    one = train(compose_config(*settings[:-1]), tmp_path / "one")
    command = [sys.executable, str(ROOT / "train.py"), *settings, "trainer=ddp", "hydra.run.dir=two"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert two["metrics"] == one.row["metrics"]
    assert (tmp_path / "two" / "per_query.parquet").read_bytes() == (one.folder / "per_query.parquet").read_bytes()
