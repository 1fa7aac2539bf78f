"""What every online projection promises, in addition to the contract of all projections."""

import pytest
import torch

from deephash.codes import hard_bits
from deephash.hashers.hasher import Hasher
from deephash.projections.pcah import PCAH
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError

DIMENSION, PROJECTIONS = 16, 11
BATCHES = [slice(0, 60), slice(60, 100), slice(100, 150), slice(150, 220)]


def hasher_of(online_class):
    return Hasher(online_class(DIMENSION, PROJECTIONS), SBQ(PROJECTIONS))


def learn(hasher, sample, rows, **given):
    labels = sample.labels[rows] if hasher.projection.requires else None
    return hasher.partial_fit(sample.features[rows], labels=labels, **given)


def assert_same_state(one, other):
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_saved_amid_a_stream_it_goes_on_as_it_would_have(online_class, sample, tmp_path):
    whole = hasher_of(online_class)
    for rows in BATCHES:
        learn(whole, sample, rows)
    resumed = hasher_of(online_class)
    for i, rows in enumerate(BATCHES):
        learn(resumed, sample, rows)
        resumed.save(tmp_path / str(i))
        resumed = Hasher.load(tmp_path / str(i))
    assert_same_state(whole, resumed)
    assert resumed.identity == whole.identity


def test_update_says_which_codes_are_stale(online_class, sample):
    hasher = hasher_of(online_class)
    first = learn(hasher, sample, BATCHES[0])
    assert bool(first.moved.all())
    assert bool((first.flipped == 1).all())
    moved_at_all = False
    for rows in BATCHES[1:]:
        projections = hasher.project(sample.features)
        update = learn(hasher, sample, rows)
        now = hasher.project(sample.features)
        assert torch.equal(now[:, ~update.moved], projections[:, ~update.moved])
        flipped = (hard_bits(now) != hard_bits(projections))[rows].float().mean(0)
        assert torch.allclose(update.flipped, flipped)
        assert update.is_stale == bool(update.moved.any())
        moved_at_all |= update.is_stale
    assert moved_at_all, "it learnt nothing"


def test_an_empty_batch_changes_nothing(online_class, sample):
    hasher = hasher_of(online_class)
    learn(hasher, sample, BATCHES[0])
    before = {name: tensor.clone() for name, tensor in hasher.state_dict().items()}
    update = learn(hasher, sample, slice(0, 0))
    assert not update.is_stale
    assert not bool(update.flipped.any())
    assert all(torch.equal(tensor, before[name]) for name, tensor in hasher.state_dict().items())


def test_state_does_not_grow_with_the_items(online_class, sample):
    hasher = hasher_of(online_class)
    learn(hasher, sample, BATCHES[0])
    size = sum(tensor.numel() for tensor in hasher.state_dict().values())
    for rows in torch.arange(400).split(50):
        learn(hasher, sample, rows)
    assert int(hasher.projection.seen) == 460
    assert sum(tensor.numel() for tensor in hasher.state_dict().values()) == size


def test_the_first_generator_decides_all_draws(online_class, sample):
    def learnt(seed):
        hasher = hasher_of(online_class)
        for rows in BATCHES:
            learn(hasher, sample, rows, generator=torch.Generator().manual_seed(seed))
        return hasher

    assert_same_state(learnt(3), learnt(3))
    draws = online_class.samples_rows
    same = torch.equal(learnt(3).project(sample.features), learnt(4).project(sample.features))
    assert same != draws


def test_classes_that_appear_later_are_learnt(online_class, sample):
    if not online_class.requires:
        pytest.skip("it takes no labels")
    hasher = hasher_of(online_class)
    old, new = sample.labels < 2, sample.labels >= 2
    learn(hasher, sample, old)
    update = learn(hasher, sample, new)
    assert update.is_stale


def test_labels_may_be_several(online_class, sample):
    if not online_class.requires:
        pytest.skip("it takes no labels")
    hasher = hasher_of(online_class)
    labels = torch.nn.functional.one_hot(sample.labels, 4).bool()
    labels[::5, 0] = True
    hasher.partial_fit(sample.features[:200], labels=labels[:200])
    assert hasher.partial_fit(sample.features[200:], labels=labels[200:]).is_stale


def test_refusals(online_class, sample):
    hasher = hasher_of(online_class)
    labels = sample.labels if online_class.requires else None
    few = online_class.minimum_rows - 1
    given = None if labels is None else labels[:few]
    with pytest.raises(InvalidInputError, match=f"have {few} rows; expected at least {few + 1}"):
        hasher.partial_fit(sample.features[:few], labels=given)
    broken = sample.features.clone()
    broken[2, 1] = float("nan")
    with pytest.raises(InvalidInputError, match="stream features contain NaN or infinity in 1 of 400 rows"):
        hasher.partial_fit(broken, labels=labels)
    with pytest.raises(InvalidInputError, match="stream labels have 3 rows; expected 400"):
        hasher.projection.partial_fit(sample.features, torch.zeros(3, dtype=torch.int64))
    if labels is not None:
        with pytest.raises(InvalidInputError, match=f"{online_class.__name__} is fitted from labels"):
            hasher.partial_fit(sample.features)
    assert not bool(hasher.projection.is_fitted)


def test_a_method_of_all_items_at_once_says_so(sample):
    with pytest.raises(InvalidInputError, match="PCAH learns from all items at once; fit it again, or choose a method"):
        Hasher(PCAH(16, 4), SBQ(4)).partial_fit(sample.features)


def test_room_for_classes_is_bounded(online_class, sample):
    if "labels" not in online_class.requires:
        return
    labels = sample.labels.clone()
    labels[3] = 10**6
    projection = online_class(16, 8)
    for learn in (projection.partial_fit, projection.fit):
        with pytest.raises(InvalidInputError, match="labels reach 1000000, but stream methods allocate memory"):
            learn(sample.features, labels=labels)
