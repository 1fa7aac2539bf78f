"""Learning from a stream, end to end: the same result after a kill at any point, and each policy."""

import copy
import json

import pytest
import torch

from deephash.affinity.label import Label
from deephash.command_line.programs.train import train
from deephash.data.items import Items
from deephash.hashers.hasher import Hasher
from deephash.io.run_folder import RunFolder
from deephash.projections.itq_cca import ITQCCA
from deephash.projections.lsh import LSH
from deephash.projections.online.hcoh import HCOH
from deephash.projections.online.osh import OSH
from deephash.projections.online.streaming_itq_cca import StreamingITQCCA
from deephash.quantizers.sbq import SBQ
from deephash.ranking.torch_engine import TorchEngine
from deephash.streams.new_classes import NewClasses
from deephash.streams.recurring import Recurring
from deephash.streams.reencoding.budget import Budget
from deephash.streams.reencoding.compatible import Compatible
from deephash.streams.reencoding.every import Every
from deephash.streams.reencoding.never import Never
from deephash.streams.reencoding.on_drift import OnDrift
from deephash.streams.stationary import Stationary
from deephash.training.checkpoint import SafetensorsCheckpoint
from deephash.training.evaluate_run import evaluate
from deephash.training.stream_rows import draw_balanced, draw_withheld
from deephash.training.stream_training import StreamSettings, StreamTraining
from deephash.validation import InvalidInputError

CLASSES, DIMENSION, BITS = 6, 12, 8


def items_of(n=1500, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    centres = 2 * torch.randn(CLASSES, DIMENSION, generator=generator)
    return Items(centres[labels] + torch.randn(n, DIMENSION, generator=generator), labels)


def training_of(projection=StreamingITQCCA, stream=None, policy=None, items=None, **settings):
    settings = {"batch_size": 50, "first_batch": 100, "checkpoints": 5, "queries": 60, "capacity": 400, **settings}
    training = StreamTraining(
        Hasher(projection(DIMENSION, BITS), SBQ(BITS)),
        Label(),
        TorchEngine(),
        stream or Recurring(1000, phases=4),
        policy or Every(200),
        StreamSettings(**settings),
    )
    rows = torch.arange(1500)
    training.prepare(items or items_of(), rows[300:], rows[:300], CLASSES)
    return training


def comparable(training):
    """All of the state but for the time it took."""
    state = copy.deepcopy(training.state())
    del state["seconds"], state["processor_seconds"]
    for entry in state["history"]:
        del entry["seconds"], entry["processor_seconds"]
    return state


def assert_same(one, other, place="state"):
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{place}.{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    else:
        assert one == other or (one != one and other != other), place


class Killed(BaseException):
    pass


@pytest.mark.parametrize("unlabelled", [0.0, 0.4])
@pytest.mark.parametrize("policy", [Never, lambda: Every(150), lambda: Budget(7), lambda: Compatible(200, 2), OnDrift])
@pytest.mark.parametrize("projection", [StreamingITQCCA, HCOH, ITQCCA])
def test_a_stream_killed_at_any_item_ends_in_the_same_state(policy, projection, unlabelled, tmp_path):
    if policy is OnDrift:
        pytest.importorskip("river")
    settings = {"refit_every": 300, "unlabelled": unlabelled}
    whole = training_of(projection, policy=policy(), **settings)
    whole.run(tmp_path / "whole.safetensors")
    assert len(whole.history) == 5
    for kill in (130, 990):
        file = tmp_path / f"{kill}.safetensors"
        killed = training_of(projection, policy=policy(), **settings)
        step = killed.step

        def stop(rows, killed=killed, step=step, kill=kill):
            if killed.seen + len(rows) > kill:
                raise Killed
            step(rows)

        killed.step = stop
        with pytest.raises(Killed):
            killed.run(file)
        resumed = training_of(projection, policy=policy(), **settings)
        resumed.run(file)
        assert_same(comparable(whole), comparable(resumed))


def test_state_is_bounded_by_the_capacity():
    def size(value):
        if isinstance(value, torch.Tensor):
            return value.numel()
        if isinstance(value, dict):
            return sum(map(size, value.values()))
        return 0

    sizes = []
    training = training_of(stream=Stationary(3000), checkpoints=3)
    for _ in range(30):
        training.step(training.arrivals.take(100))
        sizes.append(size(training.state()))
    assert sizes[9] == sizes[-1]
    assert len(training.search.database) == 400


def test_never_leaves_the_codes_and_every_makes_all_anew(tmp_path):
    never, every = training_of(policy=Never()), training_of(policy=Every(1))
    never.run(tmp_path / "never")
    every.run(tmp_path / "every")
    assert never.history[-1]["reencoded_items"] == 0
    assert never.history[-1]["stale"] > 100
    assert every.history[-1]["stale"] == 0
    for training, same in ((every, True), (never, False)):
        database = training.search.database
        coded = database.code_versions > 0
        now = training.search.hasher.encode(database.features[coded])
        assert torch.equal(database.codes[coded], now) is same
    assert every.history[-1]["reencoded_bytes"] == every.history[-1]["reencoded_items"]  # 8 bits each
    assert every.history[-1]["flipped_bits"] > 0


def test_budget_is_kept(tmp_path):
    training = training_of(policy=Budget(7))
    training.run(tmp_path / "state")
    assert 0 < training.history[-1]["reencoded_items"] <= 7 * 19


def test_compatible_keeps_no_more_functions_than_it_may(tmp_path):
    training = training_of(policy=Compatible(200, kept=3), checkpoints=10)
    training.run(tmp_path / "state")
    versions = torch.unique(training.search.database.code_versions).tolist()
    assert versions.pop(0) == 0  # of the first batch, which has no codes
    assert 1 < len(versions) <= 3
    assert set(training.search.maps) >= set(versions) - {training.search.current_version}
    assert training.search.current_version == 5  # the first batch's, and one after every 200 items
    assert 0 < training.history[-1]["reencoded_items"] < 400


def test_mapped_queries_find_what_an_unrelated_function_encoded(tmp_path):
    training = training_of(LSH, policy=Compatible(5000), stream=Stationary(1000), refit_every=None)
    training.run(tmp_path / "state")
    before = training.evaluate()["mAP"]
    other = Hasher(LSH(DIMENSION, BITS), SBQ(BITS))
    training.search.publish(other.fit(items_of().features, generator=torch.Generator().manual_seed(1)))
    mapped = training.evaluate()["mAP"]
    training.search.maps = {1: torch.cat([torch.eye(BITS), torch.zeros(1, BITS)]).double()}
    assert mapped > 0.8 * before > 1.5 * training.evaluate()["mAP"]


def test_scores_are_by_the_present_shares(tmp_path):
    training = training_of(stream=Recurring(1000, concepts=2, phases=2))
    training.run(tmp_path / "state")
    last = training.history[-1]
    assert last["mAP"] == pytest.approx(sum(last["per_class"][label] for label in (1, 3, 5)) / 3)
    assert training.present_classes() == [False, True] * 3


def test_it_learns(tmp_path):
    """A stream of two labels' worth of structure: a moving method ends above one that saw the first batch alone."""
    moving = training_of(HCOH, stream=NewClasses(1000))
    moving.run(tmp_path / "moving")
    static = training_of(ITQCCA, stream=NewClasses(1000), refit_every=None)
    static.run(tmp_path / "static")
    refitted = training_of(ITQCCA, stream=NewClasses(1000), refit_every=200)
    refitted.run(tmp_path / "refitted")
    assert static.search.current_version == 1
    assert refitted.search.current_version == 5
    assert refitted.history[-1]["mAP"] > static.history[-1]["mAP"]
    assert moving.history[-1]["mAP"] > static.history[-1]["mAP"]


POLICIES = [Never, lambda: Every(1), lambda: Budget(7), lambda: Compatible(200, 2)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("projection", [StreamingITQCCA, HCOH, OSH, ITQCCA, LSH])
def test_a_code_does_not_depend_on_the_label_of_its_item(projection, policy):
    """A batch that arrives with other labels gets the same codes, until they are re-encoded."""
    codes = []
    for shift in (0, 1):
        training = training_of(projection, policy=policy(), refit_every=50)
        for _ in range(5):
            training.step(training.arrivals.take(50))
        rows = training.arrivals.take(50)
        training.items.labels[rows] = (training.items.labels[rows] + shift) % CLASSES
        training.reencoding = Never()
        training.step(rows)
        codes.append(training.search.database.codes[-50:])
    assert torch.equal(*codes)


def test_codes_of_items_that_are_not_reencoded_know_nothing_of_random_labels(tmp_path):
    generator = torch.Generator().manual_seed(3)
    items = Items(torch.randn(1500, 64, generator=generator), torch.randint(CLASSES, (1500,), generator=generator))
    areas = {}
    for name, policy in (("never", Never()), ("every", Every(1))):
        training = StreamTraining(
            Hasher(StreamingITQCCA(64, BITS, regularisation=0.01), SBQ(BITS)),
            Label(),
            TorchEngine(),
            Stationary(600),
            policy,
            StreamSettings(batch_size=50, first_batch=100, checkpoints=3),
        )
        training.prepare(items, torch.arange(600), torch.arange(600), CLASSES)  # queries that have arrived
        training.run(tmp_path / name)
        areas[name] = training.history[0]["mAP"]
    assert areas["every"] > areas["never"] + 0.02


def test_the_first_batch_has_no_codes_and_is_not_searched(tmp_path):
    training = training_of(policy=Every(1))
    training.run(tmp_path / "state")
    database = training.search.database
    assert training.history[0]["database"] == 100  # after 200 items
    assert int((database.code_versions == 0).sum()) > 0  # items of the first batch, still to learn from
    assert training.history[-1]["database"] == int((database.code_versions > 0).sum())
    assert training.history[-1]["stale"] == 0


@pytest.mark.parametrize("policy", [*POLICIES, OnDrift])
@pytest.mark.parametrize("projection", [HCOH, ITQCCA])
def test_labels_of_items_that_are_not_learnt_from_change_no_code(projection, policy, tmp_path):
    if policy is OnDrift:
        pytest.importorskip("river")
    found = []
    for shift in (0, 1):
        items = items_of()
        withheld = draw_withheld(1500, torch.arange(300, 1500), 0.4, 0)
        training = training_of(projection, policy=policy(), items=items, unlabelled=0.4, stream=Stationary(1000))
        assert torch.equal(training.withheld, withheld)
        items.labels[withheld] = (items.labels[withheld] + shift) % CLASSES
        arrivals = training_of().stream.arrivals(items_of().labels, torch.arange(300, 1500), CLASSES, 0)
        training.arrivals = arrivals
        training.run(tmp_path / f"state{shift}")
        found.append(training)
    one, other = found
    assert torch.equal(one.search.database.codes, other.search.database.codes)
    assert one.history[-1]["mAP"] > other.history[-1]["mAP"] + 0.1  # the labels by which codes are scored
    assert one.history[-1]["database"] == int(
        (~one.search.database.learnable & (one.search.database.code_versions > 0)).sum()
    )
    assert one.progress.reencoded_items == other.progress.reencoded_items


def test_withheld_rows_are_a_share_of_the_pool():
    withheld = draw_withheld(100, torch.arange(20, 100), 0.25, 0)
    assert int(withheld.sum()) == int(withheld[20:].sum()) == 20
    assert not torch.equal(withheld, draw_withheld(100, torch.arange(20, 100), 0.25, 1))
    assert not bool(draw_withheld(100, torch.arange(100), 0.0, 0).any())


@pytest.mark.parametrize("share", [-0.1, 1.0, True, "some"])
def test_a_share_of_unlabelled_items_is_below_one(share):
    with pytest.raises(
        InvalidInputError, match=r"train.unlabelled=.*; expected a share of the items, from 0 to below 1"
    ):
        training_of(unlabelled=share)


def test_a_checkpoint_without_a_scored_item_is_refused(tmp_path):
    training = training_of(unlabelled=0.001, stream=Stationary(1000), checkpoints=20)
    with pytest.raises(InvalidInputError, match=r"none of the first 150 items is scored; lower train.checkpoints"):
        training.run(tmp_path / "state")


def test_a_share_that_selects_no_row_is_refused_at_once():
    with pytest.raises(InvalidInputError, match=r"train.unlabelled=1e-06 of \d+ rows is none.*raise it"):
        training_of(unlabelled=1e-6)


def test_a_checkpoint_of_the_former_order_is_refused(tmp_path):
    training = training_of()
    training.step(training.arrivals.take(100))
    state = training.state()
    training_of().restore(state)
    del state["order"]
    SafetensorsCheckpoint().save_checkpoint(state, tmp_path / "last.safetensors")
    with pytest.raises(InvalidInputError, match="earlier version, which learnt from items before it encoded them"):
        training_of().run(tmp_path / "last.safetensors")


def test_queries_are_balanced():
    labels = torch.tensor([0] * 90 + [1] * 10)
    chosen = draw_balanced(labels, torch.arange(100), 20, 0)
    assert torch.bincount(labels[chosen]).tolist() == [10, 10]
    several = torch.ones(100, 3, dtype=torch.bool)
    assert len(draw_balanced(several, torch.arange(100), 20, 0)) == 20


def test_a_first_batch_beyond_the_stream_is_refused():
    for first in (1000, 2000):
        with pytest.raises(InvalidInputError, match=f"train.first_batch={first} leaves none of the 1000 items of the"):
            training_of(first_batch=first)
    with pytest.raises(InvalidInputError, match=r"train.neighbours=0; expected a whole number"):
        training_of(neighbours=0)


STREAM_RUN = ["train=stream", "bits=16", "figures=false", "stream.length=1500", "train.checkpoints=3"]


def test_a_run_of_a_stream(compose_config, tmp_path):
    config = compose_config(*STREAM_RUN, "method=streaming_itq_cca", "stream=new_classes", "reencoding=budget")
    row = train(config, tmp_path).row
    run = RunFolder(tmp_path)
    assert run.is_complete
    assert (row["stream"], row["reencoding"]) == ("new_classes", "budget")
    assert row["changes"] == [300, 600, 900, 1200]
    assert 0.2 < row["metrics"]["mAP"] < 1
    assert [entry["seen"] for entry in json.loads(run.history.read_text())] == [1000, 1500]
    assert Hasher.load(run.hasher).bits == 16
    assert train(config, tmp_path).row["metrics"] == json.loads(run.metrics.read_text())["metrics"]
    # An evaluation encodes the whole database by the last hasher, so there is nothing to compare it with.
    evaluation = compose_config(f"run={tmp_path}", "figures=false", config_name="evaluate")
    again, stored = evaluate(evaluation, tmp_path.parent / "evaluation")
    assert stored is None
    assert again.row["sizes"].keys() == {"train", "query", "database"}


def test_a_run_draws_its_course(compose_config, tmp_path):
    config = compose_config("train=stream", "bits=8", "method=hcoh", "stream.length=1000", "train.checkpoints=2")
    train(config, tmp_path)
    assert (tmp_path / "stream.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["truth=epsilon_ball"], "truth=epsilon_ball with train=stream; a stream is scored only by labels"),
        (["stream=feature_drift"], "stream=feature_drift changes images before they are described"),
        (
            ["score=validation"],
            "This split has no validation_query part; choose a protocol with this part, such as protocol=five_way",
        ),
    ],
)
def test_runs_that_no_stream_is_made_of_are_refused(settings, message, compose_config, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        train(compose_config(*STREAM_RUN, "method=hcoh", *settings), tmp_path)
