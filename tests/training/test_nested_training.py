"""Nested losses in training: a method's own losses by `loss=nested`, resuming, and codes whose prefixes are good."""

import json

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from deephash.command_line.nested_losses import add_nested_losses
from deephash.command_line.programs.train import train
from deephash.evaluation import FittedTruth, score_codes
from deephash.hashers.hasher import Hasher
from deephash.io.configuration import find_configuration_folder
from deephash.io.instantiation import build
from deephash.io.run_folder import RunFolder
from deephash.ranking.distance import Hamming
from deephash.training.building import build_data
from deephash.training.joint_module import JointModule
from deephash.validation import InvalidInputError

FEW = ("bits=32", "metrics.at=[10]", "figures=false", "encoder.hidden=[32]", "train.batch_size=50")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Eight noisy classes."""
    folder = tmp_path_factory.mktemp("arrays")
    draw = np.random.default_rng(0)
    labels = np.arange(400) % 8
    features = draw.normal(size=(400, 16)) + draw.normal(size=(8, 16))[labels]
    np.save(folder / "features.npy", features.astype(np.float32))
    np.save(folder / "labels.npy", labels)
    protocol = ("queries=50", "validation_queries=50", "train=150", "validation_database=50", "database=rest")
    return (
        "data=arrays",
        f"data.features={folder / 'features.npy'}",
        f"data.labels={folder / 'labels.npy'}",
        "protocol=five_way",
        *(f"protocol.{setting}" for setting in protocol),
    )


def score_prefix(config, folder, bits):
    """The mAP of the codes of a run, cut to whole bytes."""
    data = build_data(config)
    data.prepare_data()
    data.setup()
    parts = [data.part(role) for role in ("query", "database")]
    hasher = Hasher.load(RunFolder(folder).hasher)
    codes = [hasher.encode(part.features)[:, : bits // 8].contiguous() for part in parts]
    relevance = FittedTruth(build(config.truth), data).relevance(*parts)
    return score_codes(*codes, relevance, Hamming(bits)).results["mAP"]


@pytest.mark.ci
def test_the_first_byte_of_a_nested_code_is_a_code(arrays, compose_config, tmp_path):
    schedule = ("train.epochs=20", "train.validate_every=20", "train.optimizer.lr=0.01")
    scores = {}
    for loss in ("csq", "[csq,nested]"):
        prefixes = ("loss.nested.prefixes=[8,32]",) if "nested" in loss else ()
        config = compose_config("method=csq", *arrays, *FEW, *schedule, f"loss={loss}", *prefixes)
        result = train(config, tmp_path / loss)
        scores[loss] = [score_prefix(config, result.folder, bits) for bits in (8, 32)]
        assert scores[loss][1] == result.row["metrics"]["mAP"]
    assert result.row["loss"] == "csq+nested"
    assert scores["[csq,nested]"][0] > scores["csq"][0] + 0.05
    assert scores["[csq,nested]"][1] > scores["csq"][1] - 0.05


def test_it_resumes_to_the_same_weights(arrays, compose_config, tmp_path, monkeypatch):
    """The weights of each prefix's loss are restored, and no file of the run is a pickle."""
    settings = ("loss=[classification,csq,nested]", "train.epochs=3", "train.validate_every=1", "train.select_by=null")
    config = compose_config("method=csq", *arrays, *FEW, *settings)
    whole = train(config, tmp_path / "whole")

    class Killed(BaseException):
        """What no handler of errors catches."""

    step = JointModule.training_step

    def killed_step(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (2, 1):
            raise Killed
        return step(self, batch, batch_idx)

    monkeypatch.setattr(JointModule, "training_step", killed_step)
    with pytest.raises(Killed):
        train(config, tmp_path / "run")
    monkeypatch.setattr(JointModule, "training_step", step)
    resumed = train(config, tmp_path / "run")
    one, other = (dict(Hasher.load(RunFolder(each.folder).hasher).state_dict()) for each in (whole, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.row["metrics"] == resumed.row["metrics"]


def test_only_quantisers_of_one_bit_per_projection_are_cut(arrays, compose_config, tmp_path):
    for quantizer, name in (("mhq", "MHQ"), ("vbq", "VBQ")):
        config = compose_config("method=csq", *arrays, *FEW, "loss=[csq,nested]", f"quantizer={quantizer}")
        with pytest.raises(InvalidInputError, match=f"one bit per projection, which are not those of {name}"):
            train(config, tmp_path / quantizer)


@pytest.mark.parametrize(
    ("overrides", "losses"),
    [
        (["method=greedyhash"], {"classification": 1.0, "greedy_penalty": 0.1}),
        (["method=dsdh"], {"dsdh": 1.0, "dpsh": 1.0}),
        (["method=bihalf", "loss.similarity_preserving.weight=10"], {"similarity_preserving": 10}),
        (["method=dcmh"], {"dcmh": 1.0}),
        (["method=itq", "train=joint"], {"ap": 1.0}),
        (["method=csq", "experiment=deep_table"], {"csq": 1.0}),
    ],
)
def test_it_takes_the_losses_that_the_run_has_without_it(overrides, losses):
    nested = [*overrides, "loss=nested", "loss.nested.prefixes=[8,64]"]
    with initialize_config_dir(find_configuration_folder(), version_base="1.3"):
        plain, config = compose("train", overrides), compose("train", nested)
        add_nested_losses(config, nested)
    assert {name: entry.weight for name, entry in config.loss.items()} == {**losses, "nested": 1.0}
    assert all(config.loss[name] == plain.loss[name] for name in losses)
    assert list(config.loss.nested.prefixes) == [8, 64]


@pytest.mark.parametrize("loss", ["csq", "[csq,nested]", "[nested,ap]"])
def test_losses_that_are_named_stay_as_they_are(loss):
    with initialize_config_dir(find_configuration_folder(), version_base="1.3"):
        config = compose("train", ["method=dpsh", f"loss={loss}"])
        before = config.copy()
        add_nested_losses(config, ["method=dpsh", f"loss={loss}"])
    assert config == before


@pytest.mark.ci
def test_the_command_line_nests_the_losses_of_methods(arrays, forked, tmp_path):
    """In a sweep, the method of each job."""
    settings = ("loss=nested", "train.epochs=1", "logger=none")
    jobs = ("-m", "method=greedyhash,dhd", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${choices.method}")
    status, _, err = forked(tmp_path, "train.py", *jobs, *settings, *arrays, *FEW)
    assert status == 0, err
    for method, losses in (("greedyhash", ["classification", "greedy_penalty"]), ("dhd", ["dhd"])):
        run = RunFolder(tmp_path / "sweep" / method)
        assert list(run.read_config().loss) == [*losses, "nested"]
        assert run.read_row()["loss"] == "+".join([*losses, "nested"])
        assert json.loads(run.history.read_text())["epochs"][-1]["losses"].keys() == set(losses)
