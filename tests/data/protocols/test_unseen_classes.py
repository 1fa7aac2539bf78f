"""Training on some classes and searching others: disjoint classes, parts, several labels, and every kind of method."""

import numpy as np
import pytest
import torch

from deephash.command_line.programs.train import train
from deephash.data.protocols.base import Split
from deephash.data.protocols.unseen_classes import UnseenClasses
from deephash.training.evaluate_run import evaluate
from deephash.validation import InvalidInputError

LABELS = torch.arange(400) % 20


def classes_of(rows):
    return set(LABELS[torch.from_numpy(rows)].tolist())


def test_classes_are_split_and_no_class_is_both_trained_on_and_searched():
    split = UnseenClasses().split(400, LABELS, None, 3)
    assert len(classes_of(split.train)) == 15
    assert classes_of(split.query) == classes_of(split.database)
    assert len(classes_of(split.query)) == 5
    assert not classes_of(split.train) & classes_of(split.query)
    assert len(split.train) == 300
    assert len(split.query) == 20
    assert len(split.database) == 80


def test_the_seed_chooses_the_classes():
    drawn = [classes_of(UnseenClasses().split(400, LABELS, None, seed).query) for seed in range(8)]
    assert drawn[0] == classes_of(UnseenClasses().split(400, LABELS, None, 0).query)
    assert len({frozenset(classes) for classes in drawn}) > 4
    assert len(set().union(*drawn)) > 12


def test_publishers_parts_are_kept():
    official = np.array(["train", "query", "database", "both"])[np.arange(400) // 20 % 4]
    split = UnseenClasses().split(400, LABELS, official, 1)
    assert set(official[split.train]) == {"train", "both"}
    assert set(official[split.query]) == {"query"}
    assert set(official[split.database]) == {"train", "both", "database"}
    assert len(split.query) == 5 * 5
    assert len(split.train) == 15 * 10
    assert len(split.database) == 5 * 15
    smaller = UnseenClasses(queries=10, train=60, database="4 per class").split(400, LABELS, official, 1)
    assert (len(smaller.query), len(smaller.train), len(smaller.database)) == (10, 60, 20)


def test_seven_of_ten_classes_are_seen():
    assert len(UnseenClasses().choose_classes(np.arange(10), 0)) == 7
    assert len(UnseenClasses(seen=4).choose_classes(np.arange(10), 0)) == 4


def test_several_labels_only_pure_items_are_used(caplog):
    table = torch.rand(600, 8, generator=torch.Generator().manual_seed(0)) < 0.15
    split = UnseenClasses(validation_queries=5, validation_database=20).split(600, table, None, 0)
    seen = UnseenClasses().choose_classes(np.arange(8), 0)
    is_seen = torch.isin(torch.arange(8), torch.from_numpy(seen))
    for role in ("train", "validation_query", "validation_database"):
        rows = table[torch.from_numpy(split.role(role))]
        assert bool(rows[:, is_seen].any(1).all())
        assert not bool(rows[:, ~is_seen].any())
    for role in ("query", "database"):
        rows = table[torch.from_numpy(split.role(role))]
        assert bool(rows[:, ~is_seen].any(1).all())
        assert not bool(rows[:, is_seen].any())
    mixed = (table[:, is_seen].any(1) & table[:, ~is_seen].any(1)).nonzero()[:, 0].tolist()
    used = np.concatenate([split.role(role) for role in ("train", "query", "database")]).tolist()
    assert mixed
    assert not set(mixed) & set(used)
    rare = table.clone()
    rare[:, int((~is_seen).nonzero()[0, 0])] &= table[:, int(is_seen.nonzero()[0, 0])]
    UnseenClasses().split(600, rare, None, 0)
    assert "1 classes have no unseen queries without other labels" in caplog.text


def test_errors():
    with pytest.raises(InvalidInputError, match="holds out classes, and the data have no labels"):
        UnseenClasses().split(400, None, None, 0)
    for seen in (0, 1.5, -1, "half", True):
        with pytest.raises(InvalidInputError, match=rf"protocol\.seen={seen!r}; expected a fraction"):
            UnseenClasses(seen=seen)
    with pytest.raises(InvalidInputError, match=r"protocol\.seen=0\.75 of 1 classes leaves 0 seen and 1 unseen"):
        UnseenClasses().split(400, torch.zeros(400, dtype=torch.int64), None, 0)
    with pytest.raises(InvalidInputError, match=r"protocol\.seen=20 of 20 classes leaves 20 seen and 0 unseen"):
        UnseenClasses(seen=20).split(400, LABELS, None, 0)
    few = torch.cat([torch.arange(19).repeat(20), torch.tensor([19])])
    seeds = [seed for seed in range(20) if 19 not in UnseenClasses().choose_classes(np.arange(20), seed)]
    with pytest.raises(InvalidInputError, match="class 19 has 1 unseen queries, and protocol=unseen_classes needs at"):
        UnseenClasses().split(381, few, None, seeds[0])
    with pytest.raises(InvalidInputError, match=r"protocol\.queries='some'; expected a whole number"):
        UnseenClasses(queries="some")


SMALL = ("protocol=unseen_classes", "protocol.train=200", "bits=8", "metrics.at=[10]", "figures=false", "logger=none")


@pytest.mark.parametrize(
    "settings",
    [
        ("method=itq_cca",),
        ("method=ksh", "projection.anchors=50"),
        ("method=sdh", "projection.anchors=50"),
        ("method=csq", "encoder.hidden=[16]", "train.epochs=1"),
        ("method=orthohash", "encoder.hidden=[16]", "train.epochs=1"),
    ],
    ids=lambda settings: settings[0],
)
def test_methods_learn_from_seen_classes_alone(tmp_path, compose_config, settings):
    row = train(compose_config(*SMALL, *settings), tmp_path / "run").row
    assert row["protocol"] == "unseen_classes"
    held_out = 20 if "train.epochs=1" in settings else 0
    assert row["sizes"] == {"train": 200 - held_out, "query": 300, "database": 1200}
    # Three classes of equal size: a third of the items is relevant by chance.
    assert row["metrics"]["mAP"] > 0.36


def test_a_run_is_scored_again_also_on_unseen_classes_only_of_another_seed(tmp_path, compose_config):
    train(compose_config(*SMALL, "method=itq"), tmp_path / "run")
    config = compose_config(f"run={tmp_path / 'run'}", config_name="evaluate")
    again, stored = evaluate(config, tmp_path / "again")
    assert again.row["metrics"] == stored["metrics"]
    usual = compose_config("protocol=five_way_small", "bits=8", "metrics.at=[10]", "figures=false", "logger=none")
    train(usual, tmp_path / "usual")
    config = compose_config(f"run={tmp_path / 'usual'}", "protocol=unseen_classes", "seed=1", config_name="evaluate")
    other, stored = evaluate(config, tmp_path / "other")
    assert stored is None
    assert other.row["protocol"] == "unseen_classes"
    assert any("fitted on" in warning for warning in other.row["warnings"])
    assert Split.load(tmp_path / "usual" / "split.npz").hash != other.row["split"]
