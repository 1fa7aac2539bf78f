"""A flipped bit in a file of a run raises an error before the file is used, or changes nothing."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from deephash.command_line.programs.train import train
from deephash.io.run_folder import RunFolder
from deephash.io.sealed_files import digest_content, read_sealed_json, write_sealed_json
from deephash.report.comparison import compare_runs
from deephash.report.curve_file import read_curves
from deephash.training.checkpoint import SafetensorsCheckpoint, latest
from deephash.validation import InvalidInputError

# Lightning tells of a run's folder that was moved, as these copies are.
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


def flipped(path, places):
    """The file with one bit flipped at each of these places in turn."""
    whole = path.read_bytes()
    for place in places:
        damaged = bytearray(whole)
        damaged[place % len(whole)] ^= 1 << (place % 7)
        path.write_bytes(damaged)
        yield place
    path.write_bytes(whole)


def test_a_flipped_bit_of_a_checkpoint_never_gives_another_state(tmp_path):
    path = tmp_path / "last.safetensors"
    state = {"weights": torch.arange(64.0), "epoch": 3, "steps": [1, 2.5, "x"], "moments": torch.full((9,), 0.5)}
    SafetensorsCheckpoint().save_checkpoint(state, path)
    expected = str(SafetensorsCheckpoint().load_checkpoint(path))
    refused = 0
    for _ in flipped(path, range(path.stat().st_size)):
        try:
            assert str(SafetensorsCheckpoint().load_checkpoint(path)) == expected
        except InvalidInputError:
            refused += 1
    # All but the places of the digest's name and of padding.
    assert refused > path.stat().st_size - 80


def test_the_checkpoint_before_is_kept_and_offered(tmp_path):
    path = tmp_path / "last.safetensors"
    for epoch in range(3):
        SafetensorsCheckpoint().save_checkpoint({"epoch": epoch, "weights": torch.full((100,), float(epoch))}, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.safetensors", "previous.safetensors"]
    assert latest(path) == path
    next(flipped(path, [path.stat().st_size - 9]))
    with pytest.raises(InvalidInputError, match=r"last.*delete it to resume from the previous checkpoint, .*previous"):
        SafetensorsCheckpoint().load_checkpoint(path)
    path.unlink()
    assert SafetensorsCheckpoint().load_checkpoint(latest(path))["epoch"] == 1
    next(flipped(latest(path), [latest(path).stat().st_size - 9]))
    with pytest.raises(InvalidInputError, match=r"previous.*delete it to train again from the start"):
        SafetensorsCheckpoint().load_checkpoint(latest(path))


def test_a_flipped_bit_of_sealed_json_never_gives_other_values(tmp_path):
    path = tmp_path / "x.json"
    content = {"metrics": {"mAP": 0.12345678901234567, "F1@10": None}, 1: ["ä", 1e-300]}
    write_sealed_json(path, content)
    expected = json.loads(json.dumps(content))
    assert read_sealed_json(path, "a row") == expected
    for _ in flipped(path, range(path.stat().st_size)):
        try:
            read = read_sealed_json(path, "a row")
        except InvalidInputError:
            continue
        # Where the digest's own name was hit, it is an entry like any other.
        assert {name: read.get(name) for name in expected} == expected
    (tmp_path / "old.json").write_text('{"a": 1}')
    assert read_sealed_json(tmp_path / "old.json", "a row") == {"a": 1}
    assert digest_content({"a": 1, "b": 2}) == digest_content({"b": 2, "a": 1}) != digest_content({"a": 1, "b": 3})


@pytest.fixture(scope="module")
def run(tmp_path_factory, compose_config):
    """A run with a joint training of two epochs."""
    folder = tmp_path_factory.mktemp("state")
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.normal(size=(300, 8)).astype(np.float32))
    np.save(folder / "y.npy", rng.integers(0, 3, 300))
    data = ("data=arrays", f"data.features={folder / 'x.npy'}", f"data.labels={folder / 'y.npy'}")
    joint = (
        "train=joint",
        "train.epochs=2",
        "train.validate_every=1",
        "protocol=five_way_small",
        "method=lsh",
        "bits=8",
    )
    train(compose_config(*data, *joint, "figures=false", "metrics.at=[10]", "user_metric=[]"), folder / "run")
    return folder / "run"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("metrics.json", lambda run: RunFolder(run).read_row()),
        ("config.yaml", lambda run: RunFolder(run).read_config()),
        ("per_query.parquet", lambda run: compare_runs([run, run])),
        ("pr_curve.json", read_curves),
        ("history.json", lambda run: train(resumed(run), run)),
        ("hasher/fit.json", lambda run: train(resumed(run), run)),
        ("hasher/weights.safetensors", lambda run: train(resumed(run), run)),
        ("best/weights.safetensors", lambda run: train(resumed(run, "hasher"), run)),
        ("start/weights.safetensors", lambda run: train(resumed(run, "hasher", "checkpoint"), run)),
        ("start/fit.json", lambda run: train(resumed(run, "hasher", "checkpoint"), run)),
        ("checkpoint/last.safetensors", lambda run: train(resumed(run, "hasher"), run)),
        ("split.npz", lambda run: train(resumed(run), run)),
    ],
)
def test_a_digit_that_changed_is_refused_by_what_reads_it(name, read, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / name
    whole = path.read_bytes()
    # A digit for another in text, and a bit of the middle of what is binary.
    place = next((at for at in range(len(whole) // 3, len(whole)) if whole[at : at + 1].isdigit()), 0)
    text = path.suffix in (".json", ".yaml")
    at = place if text else len(whole) // 2 if path.suffix == ".npz" else len(whole) - 5
    at = 100 if path.suffix == ".parquet" else at
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(InvalidInputError, match=path.parent.name):
        read(tmp_path / "run")


def resumed(run, *removed):
    """The config of a run made to look interrupted, without these folders too."""
    config = RunFolder(run).read_config()
    RunFolder(run).metrics.unlink()
    for name in removed:
        shutil.rmtree(run / name)
    return config


def test_a_training_goes_on_from_the_checkpoint_before_to_the_same_weights(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    interrupted = RunFolder(tmp_path / "run")
    config = resumed(tmp_path / "run", "hasher")
    interrupted.checkpoint.unlink()
    again = train(config, tmp_path / "run")
    assert again.row["metrics"] == RunFolder(run).read_row()["metrics"]
    weights = (tmp_path / "run" / "hasher" / "weights.safetensors").read_bytes()
    assert weights == (run / "hasher" / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("value", [{}, "0.5", True, [0.5]])
def test_a_metric_that_is_no_number_is_refused_by_compare(value, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    row = json.loads((run / "metrics.json").read_text())
    del row["sha256"]
    row["metrics"]["F1@10"] = value
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(row))
    with pytest.raises(InvalidInputError, match=r"its metric F1@10 is .*, not a number"):
        compare_runs([run, tmp_path / "run"])


def test_a_config_may_be_changed_on_purpose(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    changed = path.read_text().replace("seed: 0", "seed: 1")
    path.write_text(changed)
    with pytest.raises(InvalidInputError, match=r"does not match its digest; if you changed it on purpose, delete"):
        RunFolder(tmp_path / "run").read_config()
    path.write_text(changed.rpartition("# ")[0])
    assert RunFolder(tmp_path / "run").read_config().seed == 1
    assert yaml.safe_load(changed)["seed"] == 1
