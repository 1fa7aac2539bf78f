"""Joint training as a library call: the fitted start, the choice by validation, resuming, constraints and errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from deephash.affinity.pairs import Pairs
from deephash.command_line.programs.train import train
from deephash.data.protocols.base import Split
from deephash.evaluation import FittedTruth, score_codes
from deephash.evaluation.view_scores import VALIDATION_ROLES
from deephash.hashers.hasher import Hasher
from deephash.io.configuration import find_configuration_folder
from deephash.io.instantiation import build
from deephash.io.run_folder import RunFolder
from deephash.training.building import build_data, build_fit_module, build_hasher, build_score_settings
from deephash.training.fitting import fit_on_device
from deephash.training.joint_module import JointModule
from deephash.training.joint_runner import largest_divisor
from deephash.validation import InvalidInputError

FEW = ("metrics.at=[10]", "figures=false", "bits=8")
ITQ = ("method=itq", "train=joint", "relaxation=tanh", "train.batch_size=60", *FEW)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Six classes whose neighbours ITQ cannot see: they differ in directions of little variance."""
    folder = tmp_path_factory.mktemp("arrays")
    draw = np.random.default_rng(0)
    labels = np.arange(900) % 6
    features = draw.normal(size=(900, 24)) * np.linspace(3, 0.5, 24)
    features[:, -6:] += 1.5 * draw.normal(size=(6, 6))[labels]
    np.save(folder / "features.npy", features.astype(np.float32))
    np.save(folder / "labels.npy", labels)
    protocol = ("queries=120", "validation_queries=120", "train=300", "validation_database=150", "database=rest")
    return (
        "data=arrays",
        f"data.features={folder / 'features.npy'}",
        f"data.labels={folder / 'labels.npy'}",
        "protocol=five_way",
        *(f"protocol.{setting}" for setting in protocol),
    )


@pytest.fixture(scope="module")
def trained(arrays, compose_config, tmp_path_factory):
    """A finished training of 20 epochs, scored every 5."""
    config = compose_config(*arrays, *ITQ, "train.epochs=20", "quantizer=mhq", "train.optimizer.lr=0.01")
    return train(config, tmp_path_factory.mktemp("runs") / "joint")


def history(result):
    return json.loads(RunFolder(result.folder).history.read_text())


def weights(folder):
    return dict(Hasher.load(folder).state_dict())


def same_weights(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_starts_at_the_fit_and_lifts_validation(trained):
    told = history(trained)
    epochs = [entry["epoch"] for entry in told["epochs"]]
    assert epochs == [0, 5, 10, 15, 20]
    scores = [entry["validation"]["mAP"] for entry in told["epochs"]]
    assert max(scores) > scores[0] + 0.05
    losses = [entry["losses"]["ap"] for entry in told["epochs"][1:]]
    assert losses[-1] < losses[0]
    chosen = trained.row["training"]
    assert chosen["start"] == scores[0]
    assert chosen["best"] == max(scores)
    assert scores[epochs.index(chosen["best_epoch"])] == max(scores)
    assert trained.row["seconds"].keys() >= {"fit", "joint", "encode", "rank"}


def test_the_kept_hasher_is_the_best_one_of_validation(trained, compose_config):
    run = RunFolder(trained.folder)
    assert same_weights(run.best, run.hasher)
    assert not same_weights(run.start, run.hasher)
    config = run.read_config()
    data = build_data(config)
    data.prepare_data()
    data.setup()
    hasher, parts = Hasher.load(run.hasher), [data.part(role) for role in VALIDATION_ROLES]
    relevance = FittedTruth(build(config.truth), data).relevance(*parts)
    codes = [hasher.encode(part.features) for part in parts]
    assert score_codes(*codes, relevance, hasher.distance).results["mAP"] == trained.row["training"]["best"]


def test_start_is_the_classical_fit(trained, arrays, compose_config, tmp_path):
    classical = train(compose_config(*arrays, "method=itq", "quantizer=mhq", "relaxation=tanh", *FEW), tmp_path / "fit")
    assert same_weights(RunFolder(classical.folder).hasher, RunFolder(trained.folder).start)


def test_never_below_the_start(arrays, compose_config, tmp_path):
    # Steps that only harm: the start is the best candidate, and is what is scored.
    settings = ("method=itq_cca", "train=joint", *FEW, "train.epochs=4", "train.validate_every=2")
    harmful = train(compose_config(*arrays, *settings, "train.optimizer.lr=30"), tmp_path / "harmful")
    assert history(harmful)["best_epoch"] == 0
    assert harmful.row["training"]["best"] == harmful.row["training"]["start"]
    assert same_weights(RunFolder(harmful.folder).start, RunFolder(harmful.folder).hasher)


def test_same_seed_gives_the_same_training(trained, compose_config, tmp_path):
    again = train(RunFolder(trained.folder).read_config(), tmp_path / "again")
    assert same_weights(RunFolder(again.folder).hasher, RunFolder(trained.folder).hasher)
    assert again.row["metrics"] == trained.row["metrics"]
    assert history(again) == history(trained)


@pytest.mark.parametrize("epoch", [1, 7, 10])
def test_resumes_to_the_same_weights(trained, tmp_path, monkeypatch, epoch):
    class Killed(BaseException):
        """What no handler of errors catches."""

    step = JointModule.training_step

    def killed_step(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (epoch, 2):
            raise Killed
        return step(self, batch, batch_idx)

    config = RunFolder(trained.folder).read_config()
    monkeypatch.setattr(JointModule, "training_step", killed_step)
    with pytest.raises(Killed):
        train(config, tmp_path / "run")
    assert not RunFolder(tmp_path / "run").hasher.exists()
    monkeypatch.setattr(JointModule, "training_step", step)
    steps = []
    monkeypatch.setattr(
        JointModule, "on_train_epoch_start", _noted(JointModule.on_train_epoch_start, steps), raising=True
    )
    resumed = train(config, tmp_path / "run")
    assert steps[0] == epoch, "what was done before the kill is done again"
    assert same_weights(RunFolder(resumed.folder).hasher, RunFolder(trained.folder).hasher)
    for one, other in zip(history(resumed)["epochs"], history(trained)["epochs"], strict=True):
        assert one == other
    assert resumed.row["metrics"] == trained.row["metrics"]


AFTER_THE_LAST_EPOCH = {
    "all epochs": (),
    "patience": ("train.patience=1", "train.optimizer.lr=30"),
    "nothing to choose by": ("train.select_by=null",),
}


@pytest.mark.parametrize("settings", AFTER_THE_LAST_EPOCH.values(), ids=AFTER_THE_LAST_EPOCH)
def test_resumes_after_the_last_epoch(arrays, compose_config, tmp_path, monkeypatch, settings):
    overrides = (*ITQ, "train.epochs=4", "train.validate_every=1", *settings)
    whole = train(compose_config(*arrays, *overrides), tmp_path / "whole")

    class Killed(BaseException):
        """What no handler of errors catches."""

    save = Hasher.save

    def killed_save(self, folder):
        if folder.name == "hasher":
            raise Killed
        save(self, folder)

    monkeypatch.setattr(Hasher, "save", killed_save)
    with pytest.raises(Killed):
        train(compose_config(*arrays, *overrides), tmp_path / "run")
    monkeypatch.setattr(Hasher, "save", save)
    monkeypatch.setattr(JointModule, "training_step", lambda *_: pytest.fail("trained again"))
    resumed = train(compose_config(*arrays, *overrides), tmp_path / "run")
    assert same_weights(RunFolder(resumed.folder).hasher, RunFolder(whole.folder).hasher)
    assert resumed.row["seconds"]["joint"] > 0
    assert resumed.row["metrics"] == whole.row["metrics"]


def _noted(method, epochs):
    def noting(self):
        epochs.append(self.current_epoch)
        return method(self)

    return noting


def test_a_damaged_checkpoint_is_refused(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    run = RunFolder(folder)
    shutil.rmtree(run.hasher)
    run.metrics.unlink()
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:-100])
    with pytest.raises(InvalidInputError, match=r"not readable as a checkpoint .* resume from the previous checkpoint"):
        train(run.read_config(), folder)
    assert run.best.exists()


def test_nothing_is_pickled(trained):
    names = [path.name for path in trained.folder.rglob("*")]
    assert "last.safetensors" in names
    assert not [name for name in names if name.endswith((".ckpt", ".pt", ".pkl", ".partial"))]


def test_orthonormal_directions_stay_so(trained, arrays, compose_config, tmp_path):
    directions = weights(RunFolder(trained.folder).hasher)["projection.directions"]
    start = weights(RunFolder(trained.folder).start)["projection.directions"]
    identity = torch.eye(directions.shape[1])
    assert torch.allclose(directions.T @ directions, identity, atol=1e-5)
    assert not torch.allclose(directions, start, atol=1e-2), "they did not move at all"
    config = compose_config(*arrays, *ITQ, "train.epochs=5", "train.keep_orthogonal=false", "train.optimizer.lr=0.01")
    free = weights(RunFolder(train(config, tmp_path / "free").folder).hasher)["projection.directions"]
    assert not torch.allclose(free.T @ free, torch.eye(free.shape[1]), atol=1e-3)


@pytest.mark.parametrize("moves", ["quantizer", "projection"])
def test_what_does_not_move_stays_as_fitted(arrays, compose_config, tmp_path, moves):
    config = compose_config(
        *arrays, *ITQ, "train.epochs=5", f"train.moves=[{moves}]", "quantizer=mhq", "train.optimizer.lr=0.01",
        "train.select_by=null",
    )  # fmt: skip
    run = RunFolder(train(config, tmp_path / "run").folder)
    start, end = weights(run.start), weights(run.hasher)
    moved = {name.partition(".")[0] for name in start if not torch.equal(start[name], end[name])}
    assert moved - {"quantizer"} == ({moves} - {"quantizer"})
    assert ("quantizer.thresholds" in {n for n in start if not torch.equal(start[n], end[n])}) == (moves == "quantizer")


# Queries, what they are ranked against, and what is left to train on: where the database is trained on, and elsewhere.
HELD_OUT = {
    "literature": (("protocol=literature", "protocol.queries=200"), (70, 630, 630)),
    "labelled": (("protocol=cifar10_59k", "protocol.queries=200", "protocol.train=300"), (7, 23, 270)),
}


@pytest.mark.parametrize(("protocol", "sizes"), HELD_OUT.values(), ids=HELD_OUT)
def test_some_are_held_out_where_there_are_no_validation_parts(arrays, compose_config, tmp_path, protocol, sizes):
    config = compose_config(*arrays[:3], *protocol, *ITQ, "train.epochs=5")
    result = train(config, tmp_path / "run")
    assert result.row["sizes"] == {"train": sizes[2], "query": 200, "database": 700}
    data = build_data(config)
    data.setup()
    data.hold_out(0.1)
    roles = [data.ids(role) for role in ("validation_query", "validation_database", "train")]
    assert tuple(map(len, roles)) == sizes
    queries, database, kept = roles
    assert data.held_out == len(data.split.train) - len(kept)
    assert np.array_equal(np.unique(np.concatenate(roles)), data.split.train)
    assert not np.intersect1d(queries, np.concatenate([database, kept, data.ids("query")])).size
    if not np.array_equal(database, kept):
        assert not np.intersect1d(database, kept).size
    counts = np.bincount(data.items.labels[torch.from_numpy(queries)], minlength=6)
    assert counts.max() - counts.min() <= 2, "classes are held out in their proportions"


def test_too_few_to_hold_out_are_refused(arrays, compose_config):
    data = build_data(compose_config(*arrays[:3], "protocol=literature", "protocol.queries=200"))
    data.setup()
    data.hold_out(0.002)
    assert len(data.ids("validation_query")) == 1
    message = r"train.holdout=0.0005 of 700 training items leaves 0 validation queries"
    with pytest.raises(InvalidInputError, match=message):
        data.hold_out(0.0005)


def test_the_last_epoch_is_validated():
    assert [largest_divisor(epochs, 5) for epochs in (60, 12, 4, 61)] == [5, 4, 4, 1]
    with pytest.raises(InvalidInputError, match=r"train.validate_every=0"):
        largest_divisor(10, 0)


def test_patience_stops(arrays, compose_config, tmp_path):
    settings = (*ITQ, "train.epochs=50", "train.validate_every=1", "train.patience=3", "train.optimizer.lr=10")
    result = train(compose_config(*arrays, *settings), tmp_path / "run")
    assert result.row["training"]["epochs"] == result.row["training"]["best_epoch"] + 3 < 50


def test_a_loss_that_is_not_finite_stops_with_its_batch(arrays, compose_config, tmp_path, monkeypatch):
    encode_batch = JointModule.encode_batch

    def spoiled(self, batch):
        coded = encode_batch(self, batch)
        if (self.current_epoch, self.global_step) == (1, 7):
            coded.codes.data[3] = float("nan")
        return coded

    monkeypatch.setattr(JointModule, "encode_batch", spoiled)
    with pytest.raises(
        InvalidInputError, match=r"not finite in epoch 1, batch 2: NaN or infinity in its codes; lower train"
    ):
        train(compose_config(*arrays, *ITQ, "train.epochs=5"), tmp_path / "run")
    failed = json.loads((tmp_path / "run" / "failed_batch.json").read_text())
    assert (failed["epoch"], failed["batch"], len(failed["positions"])) == (1, 2, 60)
    assert RunFolder(tmp_path / "run").best.exists(), "what was kept before is lost"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.moves=[]"], "train.moves=\\[\\]; name at least one part"),
        (["train.moves=[decoder]"], "train.moves='decoder'; expected one of: encoder, projection, quantizer"),
        (["train.moves=[encoder]"], "has no weight to learn"),
        (["train.batch_size=1"], "train.batch_size=1 of .* expected at least 2"),
        (["+train.rates.decoder=2"], "train.rates='decoder'; expected one of: encoder, loss, projection, quantizer"),
        (["train.epochs=0"], "train.epochs=0"),
        (["loss.ap.weight=0"], "joint training has no loss"),
        (["loss.ap.weight=much"], "loss.ap.weight='much'; expected a finite number"),
        (["train.select_by=beauty"], "train.select_by='beauty'; expected one of"),
        (
            ["protocol=literature", "protocol.queries=100", "train.holdout=2.0"],
            "train.holdout=2.0; expected a fraction",
        ),
    ],
)
def test_wrong_settings_are_refused(arrays, compose_config, tmp_path, overrides, message):
    given = arrays[:3] if "protocol=literature" in overrides else arrays
    with pytest.raises(InvalidInputError, match=message):
        train(compose_config(*given, *ITQ, "train.epochs=2", *overrides), tmp_path / "run")


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.precision=bf16-mixed"],
        ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0"],
        ["trainer.callbacks=[{_target_:lightning.pytorch.callbacks.EMAWeightAveraging,decay:0.9}]"],
    ],
    ids=["precision", "accumulation", "averaged weights"],
)
def test_options_of_the_trainer(arrays, compose_config, tmp_path, overrides):
    settings = (*ITQ, "train.epochs=10", "train.optimizer.lr=0.05", *overrides)
    chosen = train(compose_config(*arrays, *settings), tmp_path / "run").row["training"]
    assert chosen["best"] > chosen["start"] + 0.03


def test_a_loss_of_classes_refuses_data_without_labels(arrays, compose_config, tmp_path):
    unlabelled = [setting for setting in arrays if not setting.startswith("data.labels")]
    settings = (*ITQ, "truth=epsilon_ball", "truth.neighbours=5", "loss=csq")
    with pytest.raises(InvalidInputError, match="loss=csq learns from labels, and the data have none"):
        train(compose_config(*unlabelled, *settings), tmp_path / "run")


def gradients(config, batch_rows):
    data = build_data(config)
    data.setup()
    truth = FittedTruth(build(config.truth), data)
    start = fit_on_device(build_fit_module(config, truth), data, torch.device("cpu"))
    runner, settings = build(config.train), build_score_settings(config)
    joint = runner.build_module(config, start.hasher, truth, settings, start.hasher.distance.maximum)
    joint.prepare()
    part = data.part("train").rows(batch_rows)
    total, _ = joint.loss(
        joint.encode_batch({"positions": batch_rows, "features": part.features, "labels": part.labels})
    )
    total.backward()
    return {name: weight.grad.clone() for name, weight in joint.hasher.named_parameters() if weight.grad is not None}


def test_gradients_reach_projection_and_thresholds(arrays, compose_config):
    found = gradients(compose_config(*arrays, *ITQ, "quantizer=npq"), torch.arange(50))
    assert {"projection.parametrizations.directions.original", "quantizer.thresholds"} <= found.keys()
    assert all(bool(gradient.abs().sum() > 0) for gradient in found.values())


EXPERIMENTS = sorted(
    path.stem
    for path in (Path(find_configuration_folder()) / "experiment").glob("joint_*.yaml")
    if "train: fit,joint" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("mode", ["fit", "joint"])
def test_experiments_compare_the_fit_with_joint_training(experiment, mode, compose_config):
    config = compose_config(f"experiment={experiment}", f"train={mode}")
    assert type(build(config.train)).__name__ == {"fit": "FitRunner", "joint": "JointRunner"}[mode]


def test_a_fit_takes_no_setting_that_joint_training_lacks(compose_config):
    with pytest.raises(InvalidInputError, match=r"train\.epoch does not exist: train=fit has no settings"):
        build(compose_config("train=fit", "+train.epochs=3", "+train.epoch=3").train)


def test_the_headline_command_composes(compose_config):
    config = compose_config("method=itq", "quantizer=npq", "train=joint", "loss=ap", "relaxation=tanh", "bits=32")
    assert config.train._target_.endswith("JointRunner")
    assert config.loss.ap._target_.endswith("AP")
    assert type(build_hasher(config, 64).quantizer.relaxation).__name__ == "Tanh"
    assert compose_config("train=joint", "loss=[ap]").loss.keys() == {"ap"}
    assert "loss" not in compose_config("method=itq")


@pytest.mark.parametrize("stage", ["fit", "joint"])
def test_listed_pairs_name_rows_of_the_data_set(arrays, compose_config, tmp_path, monkeypatch, stage):
    np.save(tmp_path / "pairs.npy", np.array([[0, 6], [1, 7]]))
    asked = []
    supervise = Pairs.supervise

    def noted(self, features, labels, positions=None):
        asked.append(positions)
        return supervise(self, features, labels, positions)

    monkeypatch.setattr(Pairs, "supervise", noted)
    settings = ("method=itq", f"train={stage}", "train.epochs=1") if stage == "joint" else ("method=itq",)
    config = compose_config(*arrays, *settings, *FEW, "supervision=pairs", f"supervision.path={tmp_path / 'pairs.npy'}")
    folder = train(config, tmp_path / "run").folder
    rows = torch.from_numpy(Split.load(RunFolder(folder).split).train)
    assert len(asked) == (2 if stage == "joint" else 1)
    assert all(torch.equal(positions, rows) for positions in asked)


def test_resumes_with_the_same_dropout(compose_config, tmp_path, monkeypatch):
    class Killed(BaseException):
        """What no handler of errors catches."""

    step, epochs = JointModule.training_step, []

    def step_or_die(self, batch, batch_idx):
        epochs.append(self.current_epoch)
        if epochs == [0, 1]:
            raise Killed
        return step(self, batch, batch_idx)

    settings = ("train.epochs=2", "train.validate_every=1", "train.batch_size=4000", "encoder.hidden=[16]", "bits=8")
    config = compose_config("method=csq", *settings, "figures=false", "logger=none")
    whole = train(config, tmp_path / "whole")
    monkeypatch.setattr(JointModule, "training_step", step_or_die)
    with pytest.raises(Killed):
        train(config, tmp_path / "run")
    resumed = train(config, tmp_path / "run")
    assert epochs == [0, 1, 1]
    assert same_weights(RunFolder(resumed.folder).hasher, RunFolder(whole.folder).hasher)
