"""A run finds its data from any working folder; other data under the same name raise an error."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from deephash.code_files.run_descriptors import image_descriptor
from deephash.command_line.programs.train import train
from deephash.data.digests import features_digest
from deephash.data.items import Items
from deephash.data.protocols.base import Split
from deephash.data.views import Views
from deephash.io.path_settings import make_paths_absolute
from deephash.io.run_folder import RunFolder
from deephash.report.comparison import compare_runs
from deephash.training.evaluate_run import evaluate
from deephash.training.run_codes import encode_run_database
from deephash.validation import InvalidInputError

SETTINGS = ("data=arrays", "data.features=x.npy", "data.labels=y.npy", "protocol=five_way_small", "metrics.at=[10]")
SMALL = ("method=lsh", "bits=16", "figures=false", "user_metric=[]", *SETTINGS)


def write_data(folder, seed, labels_seed=0):
    folder.mkdir(exist_ok=True)
    np.save(folder / "x.npy", np.random.default_rng(seed).normal(size=(300, 20)).astype(np.float32))
    np.save(folder / "y.npy", np.random.default_rng(labels_seed).integers(0, 3, 300))


@pytest.fixture
def run(tmp_path, compose_config, monkeypatch):
    """A run made in the folder `here`, beside another, `there`, with other files of the same names."""
    write_data(tmp_path / "here", 0)
    write_data(tmp_path / "there", 1)
    monkeypatch.chdir(tmp_path / "here")
    train(compose_config(*SMALL), tmp_path / "run")
    return tmp_path / "run"


def test_a_run_keeps_absolute_paths_and_is_read_from_any_folder(run, monkeypatch, tmp_path):
    config = OmegaConf.load(run / "config.yaml")
    assert config.data.features == str(tmp_path / "here" / "x.npy")
    assert config.data.labels == str(tmp_path / "here" / "y.npy")
    here = encode_run_database(run)[0]
    monkeypatch.chdir(tmp_path / "there")
    assert torch.equal(encode_run_database(run)[0], here)


READERS = ["index", "evaluate", "evaluate another protocol", "export", "shard", "demo", "resume"]


@pytest.mark.parametrize("reader", READERS)
def test_other_data_under_the_same_name_are_refused_by_whatever_reads_a_run(reader, run, tmp_path, compose_config):
    from deephash.cluster.run_shards import write_run_shards
    from deephash.export.read_run_features import read_run_features
    from deephash.web.demo.served_run import load_runs

    write_data(tmp_path / "here", 2)
    if reader == "resume":
        (run / "metrics.json").unlink()
    given = [f"run={run}", *(["protocol=literature", "protocol.queries=30"] if reader.endswith("protocol") else [])]
    read = {
        "index": lambda: encode_run_database(run),
        "export": lambda: read_run_features(run),
        "shard": lambda: write_run_shards(run, tmp_path / "shards", 2),
        "demo": lambda: load_runs([run]),
        "resume": lambda: train(OmegaConf.load(run / "config.yaml"), run),
    }.get(reader, lambda: evaluate(compose_config(*given, "figures=false", config_name="evaluate"), tmp_path / "out"))
    words = (
        rf"^the features \(data.features={tmp_path}/here/x.npy, .*\) are not those that {run}/split.npz was made for"
    )
    with pytest.raises(InvalidInputError, match=words):
        read()


def test_other_labels_are_refused_too_and_other_data_are_taken_by_name(run, tmp_path, compose_config):
    write_data(tmp_path / "here", 0, labels_seed=5)
    with pytest.raises(InvalidInputError, match=r"^the labels \(.*\) are not those"):
        encode_run_database(run)
    named = ("data=arrays", "data.features=x.npy", "data.labels=y.npy")
    evaluate(compose_config(f"run={run}", *named, "figures=false", config_name="evaluate"), tmp_path / "out")


def test_a_run_of_an_earlier_version_has_relative_paths_and_no_digest(run, monkeypatch, tmp_path, compose_config):
    config = OmegaConf.load(run / "config.yaml")
    config.data.features, config.data.labels = "x.npy", "y.npy"
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))
    with np.load(run / "split.npz") as stored:
        np.savez(run / "split.npz", **{name: stored[name] for name in stored if not name.endswith("_digest")})
    row = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({key: row[key] for key in row if key not in ("files", "sha256")}))
    assert not Split.load(run / "split.npz").digests
    again, stored = evaluate(compose_config(f"run={run}", "figures=false", config_name="evaluate"), tmp_path / "out")
    assert again.row["metrics"]["mAP"] == stored["metrics"]["mAP"]
    assert train(compose_config(*SMALL), run).row["metrics"] == stored["metrics"]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InvalidInputError, match=rf"^{tmp_path}/empty/x.npy does not exist"):
        encode_run_database(run)


def test_paired_tests_need_the_same_queries_database_and_labels_and_not_the_same_training_part(
    run, tmp_path, compose_config
):
    def another(name, *settings):
        train(compose_config(*SMALL, *settings), tmp_path / name)
        return tmp_path / name

    # Other training items from the same draw: the database takes the rest of them.
    split = Split.load(run / "split.npz")
    rows = {role: getattr(split, role).tolist() for role in ("query", "database", "validation_query")}
    rows["validation_database"] = split.validation_database.tolist()
    (tmp_path / "split.json").write_text(json.dumps(rows | {"train": split.train[:-3].tolist()}))
    given = ("protocol=given", f"protocol.path={tmp_path / 'split.json'}")
    fewer = another("fewer", *given, "method=pcah")
    np.save(tmp_path / "here" / "other.npy", np.random.default_rng(7).normal(size=(300, 20)))
    features = another("features", "data.features=other.npy")
    write_data(tmp_path / "here", 3)
    changed = another("changed")
    write_data(tmp_path / "here", 0, labels_seed=3)
    labels = another("labels", f"protocol.path={run / 'split.npz'}", "protocol=given")
    compared = compare_runs([run, fewer, features, changed, labels])
    assert [test.run for test in compared.tests] == [str(fewer), str(features)]
    assert compared.untested == {
        str(changed): "other features in data=arrays",
        str(labels): "other labels in data=arrays",
    }


def test_a_digest_tells_any_other_value_order_view_or_presence():
    features = torch.arange(12.0).reshape(4, 3)
    changed = features.clone()
    changed[3, 2] = -0.0
    views = Views({"image": features, "text": features})
    absent = Views({"image": features, "text": features}, {"image": torch.ones(4) > 0, "text": torch.arange(4) > 0})
    digests = [
        features_digest(Items(given))
        for given in (features, changed, features.flip(0), features.reshape(3, 4), features.double(), views, absent)
    ]
    assert len(set(digests)) == len(digests)
    assert features_digest(Items(features.clone())) == digests[0]
    computed = [features_digest(Items(given, computed_from={"": "ab"})) for given in (features, changed)]
    assert computed[0] == computed[1] != digests[0]


def test_other_weights_of_a_descriptor_are_refused_when_images_are_encoded(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"other weights")
    descriptor = {
        "_target_": "deephash.data.descriptors.torchvision_features.TorchvisionFeatures",
        "network": "resnet18",
        "weights": str(tmp_path / "net.pth"),
    }
    RunFolder(tmp_path).open(OmegaConf.create({"data": {"descriptor": descriptor}}))
    rows = (np.array([row]) for row in range(3))
    known = {"features": "0" * 64, "image_descriptor": "1" * 64}
    split = Split(*rows)
    split.with_digests(known).save(RunFolder(tmp_path).split)
    with pytest.raises(InvalidInputError, match=r"^the files of the image descriptor \(data.*=.*net.pth"):
        image_descriptor(tmp_path)
    known["image_descriptor"] = hashlib.sha256(b"other weights").hexdigest()
    split.with_digests(known).save(RunFolder(tmp_path).split)
    assert image_descriptor(tmp_path).network == "resnet18"


def test_path_settings_are_made_absolute_at_any_depth_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "image").touch()  # Named as a view is.
    (tmp_path / "net.pth").touch()
    monkeypatch.chdir(tmp_path)
    network = {"_target_": "deephash.data.descriptors.torchvision_features.TorchvisionFeatures", "network": "resnet18"}
    config = OmegaConf.create(
        {
            "data": {
                "_target_": "deephash.data.wiki.Wiki",
                "path": "folder",
                "view": "image",
                "cache": "~/cache",
                "image_descriptor": network | {"weights": "net.pth"},
                "text_descriptor": network | {"weights": "IMAGENET1K_V1"},
            },
            "other": {"_target_": "deephash.data.paired_arrays.PairedArrays", "features": ["a.npy", "/b.npy"]},
            "protocol": {"_target_": "deephash.data.protocols.given.Given", "path": "s.npz"},
            "supervision": {"_target_": "deephash.affinity.pairs.Pairs", "path": "p.npy"},
            "encoder": {"_target_": "deephash.encoders.torchvision_backbone.TorchvisionBackbone", "weights": "net.pth"},
        }
    )
    found = make_paths_absolute(config)
    assert found.data.path == str(tmp_path / "folder")
    assert (found.data.view, found.data.cache) == ("image", "~/cache")
    assert found.data.image_descriptor.weights == found.encoder.weights == str(tmp_path / "net.pth")
    assert found.data.text_descriptor.weights == "IMAGENET1K_V1"
    assert found.other.features == [str(tmp_path / "a.npy"), "/b.npy"]
    assert (found.protocol.path, found.supervision.path) == (str(tmp_path / "s.npz"), str(tmp_path / "p.npy"))
    assert config.data.path == "folder"


def test_a_number_in_place_of_a_path_is_asked_back():
    config = OmegaConf.create({"data": {"_target_": "deephash.data.ImageFolder", "path": 2024}})
    with pytest.raises(InvalidInputError, match=r"^data.path=2024 is a number, .* data.path=./2024$"):
        make_paths_absolute(config)


@pytest.mark.parametrize("name", ["split.npz", "hasher"])
def test_a_whole_file_of_another_run_is_refused(name, run, tmp_path, compose_config):
    train(compose_config(*SMALL, "seed=1"), tmp_path / "other")
    if name == "hasher":
        shutil.copytree(tmp_path / "other" / name, run / name, dirs_exist_ok=True)
    else:
        shutil.copyfile(tmp_path / "other" / name, run / name)
    for read in (
        lambda: encode_run_database(run),
        lambda: evaluate(compose_config(f"run={run}", config_name="evaluate"), tmp_path / "out"),
    ):
        with pytest.raises(InvalidInputError, match=rf"{run}/{name}\S* does not match its digest in metrics.json"):
            read()
