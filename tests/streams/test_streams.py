"""Order of arrival: every stream is a seeded order of real rows, with the class proportions that it promises."""

import numpy as np
import pytest
import torch

from deephash.data.descriptors.pixels import Pixels
from deephash.data.items import Items
from deephash.streams.feature_drift import FeatureDrift, add_noise, brighten, rotate
from deephash.streams.new_classes import NewClasses
from deephash.streams.recurring import Recurring
from deephash.streams.shifting_priors import ShiftingPriors
from deephash.streams.stationary import Stationary
from deephash.validation import InvalidInputError

LABELS = torch.arange(3000) % 10
POOL = torch.arange(0, 3000, 2) + torch.arange(1500) % 2  # of every class
STREAMS = [Stationary(2000), NewClasses(2000), ShiftingPriors(2000), Recurring(2000), FeatureDrift(2000)]


def arrive(stream, seed=0):
    return stream.arrivals(LABELS, POOL, 10, seed).take(stream.length)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: type(stream).__name__)
def test_a_stream_is_a_seeded_order_of_the_pool(stream):
    rows = arrive(stream)
    assert torch.equal(rows, arrive(stream))
    assert not torch.equal(rows, arrive(stream, seed=1))
    assert bool(torch.isin(rows, POOL).all())
    assert len(rows) == 2000
    shares = stream.shares(torch.arange(2000), 10)
    assert torch.allclose(shares.sum(1), torch.ones(2000, dtype=torch.float64))
    # What is not due does not come.
    assert bool((shares[torch.arange(2000), LABELS[rows]] > 0).all())
    # Each class comes as often as its shares say: standard deviations are below 14.
    counts = torch.bincount(LABELS[rows], minlength=10)
    assert float((counts - shares.sum(0)).abs().max()) < 60


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: type(stream).__name__)
def test_items_come_again_only_when_all_of_their_class_have_been(stream):
    rows = arrive(stream)
    times = torch.bincount(rows, minlength=3000)[POOL]
    for label in range(10):
        own = times[LABELS[POOL] == label]
        assert int(own.max() - own.min()) <= 1


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: type(stream).__name__)
@pytest.mark.parametrize("labels", [LABELS, None, torch.nn.functional.one_hot(LABELS).bool()])
def test_arrivals_do_not_depend_on_how_they_are_taken(stream, labels, monkeypatch):
    monkeypatch.setattr("deephash.streams.arrivals.BLOCK", 300)
    whole = stream.arrivals(labels, POOL, 10, 0).take(2000)
    parts = stream.arrivals(labels, POOL, 10, 0)
    cut = [parts.take(count) for count in (1, 299, 300, 301, 700, 399)]
    assert torch.equal(torch.cat(cut), whole)
    resumed = stream.arrivals(labels, POOL, 10, 0)
    resumed.skip(1601)
    assert torch.equal(resumed.take(399), whole[1601:])
    assert len(parts.due) == len(resumed.due) == 0


def test_new_classes_come_in_phases_and_stay():
    stream = NewClasses(1000, first=4, step=3)
    assert stream.changes(10) == [334, 667]
    known = (stream.shares(torch.tensor([0, 333, 334, 666, 667, 999]), 10) > 0).sum(1)
    assert known.tolist() == [4, 4, 7, 7, 10, 10]
    with pytest.raises(InvalidInputError, match=r"stream.first=12 exceeds the 10 classes"):
        NewClasses(1000, first=12).shares(torch.tensor([0]), 10)


def test_concepts_come_back():
    stream = Recurring(1200, concepts=2, phases=4)
    assert stream.changes(10) == [300, 600, 900]
    present = stream.shares(torch.tensor([0, 299, 300, 600, 900]), 10) > 0
    assert present.nonzero()[:, 1].view(5, 5).tolist() == [[0, 2, 4, 6, 8]] * 2 + [
        [1, 3, 5, 7, 9],
        [0, 2, 4, 6, 8],
        [1, 3, 5, 7, 9],
    ]
    with pytest.raises(InvalidInputError, match=r"stream.concepts=11 exceeds the 10 classes"):
        Recurring(100, concepts=11).shares(torch.tensor([0]), 10)


def test_priors_take_turns():
    shares = ShiftingPriors(1000, strength=2.0).shares(torch.tensor([0, 500]), 10)
    assert shares.argmax(1).tolist() == [0, 5]
    assert float(shares[0].max() / shares[0].min()) == pytest.approx(np.exp(4))
    assert ShiftingPriors(1000).changes(10) == []


def image_items():
    images = np.random.default_rng(0).integers(0, 256, (3000, 8, 8, 3), dtype=np.uint8)
    return Items(Pixels().describe(images), LABELS, images=images)


def test_drift_begins_grows_and_is_full():
    stream = FeatureDrift(1000, kind="brightness", size=60, begin=0.4, end=0.6)
    assert stream.changes(10) == [400]
    assert [stream.level(p) for p in (0, 400, 500, 600, 999)] == [0.0, 0.0, pytest.approx(0.5), 1.0, 1.0]
    items, rows = image_items(), torch.tensor([5, 80, 900])
    assert torch.equal(stream.features(items, rows, 399, Pixels(), 0), items.features[rows])
    full = Pixels().describe(brighten(items.images[rows.numpy()], 60))
    assert torch.equal(stream.features(items, rows, 700, Pixels(), 0), full)


@pytest.mark.parametrize("kind", ["rotation", "brightness", "noise"])
def test_a_row_at_a_position_always_looks_the_same(kind):
    stream, items = FeatureDrift(1000, kind=kind, size=40.0), image_items()
    together = stream.features(items, torch.tensor([5, 80, 900]), 700, Pixels(), 3)
    assert torch.equal(together[1:2], stream.features(items, torch.tensor([80]), 700, Pixels(), 3))
    assert not torch.equal(together, items.features[torch.tensor([5, 80, 900])])


def test_a_quarter_turn_is_exact():
    images = image_items().images[:4]
    np.testing.assert_array_equal(rotate(images, 90), np.rot90(images, 1, (1, 2)))
    np.testing.assert_array_equal(rotate(images[..., 0], -90), np.rot90(images[..., 0], -1, (1, 2)))
    np.testing.assert_array_equal(rotate(images, 0), images)


def test_brightness_is_cut_at_white_and_black():
    images = np.array([[[0, 100, 250]]], np.uint8)
    assert brighten(images, 20).tolist() == [[[20, 120, 255]]]
    assert brighten(images, -120).tolist() == [[[0, 0, 130]]]


def test_noise_has_its_size():
    images = np.full((50, 8, 8), 128, np.uint8)
    changed = add_noise(images, 20, torch.arange(50), 0).astype(float)
    assert changed.std() == pytest.approx(20, rel=0.05)
    assert changed[0].tolist() != changed[1].tolist()


def test_data_that_no_such_stream_is_made_of_are_refused():
    plain, several = Items(torch.randn(4, 2)), Items(torch.randn(4, 2), torch.ones(4, 3, dtype=torch.bool))
    with pytest.raises(InvalidInputError, match="stream=recurring needs classes, and the data have no labels"):
        Recurring().check(plain, None)
    with pytest.raises(InvalidInputError, match="and the data have several labels per item; choose stream=stationary"):
        NewClasses().check(several, None)
    Stationary().check(several, None)
    with pytest.raises(InvalidInputError, match="stream=feature_drift changes images before they are described"):
        FeatureDrift().check(plain, None)
    with pytest.raises(InvalidInputError, match=r"stream.end=0.2 is before stream.begin=0.4"):
        FeatureDrift(begin=0.4, end=0.2)
    with pytest.raises(InvalidInputError, match="the stream needs items of class 7, which has none"):
        Stationary(500).arrivals(LABELS, POOL[LABELS[POOL] != 7], 10, 0)
