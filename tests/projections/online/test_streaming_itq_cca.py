"""ITQ+CCA of a stream equals ITQ+CCA if the sample has all items; classes may appear at any time."""

import pytest
import torch

from deephash.functional.indicators import label_indicators
from deephash.projections.itq_cca import ITQCCA, canonical_directions
from deephash.projections.online.streaming_itq_cca import StreamingITQCCA, canonical_directions_from_scatter
from deephash.validation import InvalidInputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


LABELS = torch.randint(4, (600,), generator=seeded())
CENTRES = torch.randn(4, 10, generator=seeded(1), dtype=torch.float64)
FEATURES = 3 + CENTRES[LABELS] + 2 * torch.randn(600, 10, generator=seeded(2), dtype=torch.float64)
MULTI_LABELS = torch.rand(600, 6, generator=seeded(3)) < 0.3


def streamed(labels, order=slice(None), size=100, **settings):
    stream = StreamingITQCCA(10, 8, **settings).double()
    for i, (x, y) in enumerate(zip(FEATURES[order].split(size), labels[order].split(size), strict=True)):
        stream.partial_fit(x, y, seeded(9) if i == 0 else None)
    return stream


@pytest.mark.parametrize("labels", [LABELS, MULTI_LABELS], ids=["labels", "multi-labels"])
def test_directions_are_those_of_all_items(labels):
    indicators = label_indicators(labels, torch.float64)
    _, expected, correlations = canonical_directions(FEATURES, indicators, 8, 0.3)
    joint = torch.cat([FEATURES, indicators], 1)
    found, found_correlations = canonical_directions_from_scatter(
        len(joint) * torch.cov(joint.T, correction=0), torch.tensor(len(joint)), 10, 8, 0.3
    )
    assert torch.allclose(found_correlations, correlations, atol=1e-9)
    clear = correlations > 1e-6  # A correlation of 0 has any direction.
    assert torch.allclose(found[:, clear], expected[:, clear], atol=1e-8)


@pytest.mark.parametrize("labels", [LABELS, MULTI_LABELS], ids=["labels", "multi-labels"])
@pytest.mark.parametrize("size", [37, 600])
def test_with_all_items_held_and_rotations_from_the_start_it_is_itq_cca(labels, size):
    batch = ITQCCA(10, 8).double().fit(FEATURES, labels=labels, generator=seeded(9))
    stream = streamed(labels, size=size, carried=False, iterations=50)
    assert torch.allclose(stream.directions, batch.directions, atol=1e-6)
    assert torch.allclose(stream.mean, batch.mean)


def test_solved_now_and_then_it_takes_in_every_batch():
    """Solutions at 150 and 600 items, the latter that of all items; between them no code becomes stale."""
    stream, stale = StreamingITQCCA(10, 8, carried=False, iterations=50, solve_every=450).double(), []
    for i, (x, y) in enumerate(zip(FEATURES.split(150), LABELS.split(150), strict=True)):
        stale.append(stream.partial_fit(x, y, seeded(9) if i == 0 else None).is_stale)
    assert stale == [True, False, False, True]
    batch = ITQCCA(10, 8).double().fit(FEATURES, labels=LABELS, generator=seeded(9))
    assert torch.allclose(stream.directions, batch.directions, atol=1e-6)
    late = torch.where(LABELS[:100] == 3, 0, LABELS[:100])
    stream = StreamingITQCCA(10, 8, solve_every=10_000).double()
    stream.partial_fit(FEATURES[:100], late, seeded(9))
    assert not stream.partial_fit(FEATURES[100:200], late).is_stale
    assert stream.partial_fit(FEATURES[200:300], torch.full((100,), 3)).is_stale


def test_classes_that_come_late_count_as_if_known_before():
    order = LABELS.argsort(stable=True)
    order = torch.cat(
        [
            order[LABELS[order] < 2][torch.randperm(int((LABELS < 2).sum()), generator=seeded())],
            order[LABELS[order] >= 2],
        ]
    )
    stream = streamed(LABELS, order, carried=False, iterations=50)
    assert stream.classes == 4
    batch = ITQCCA(10, 8).double().fit(FEATURES[order], labels=LABELS[order], generator=seeded(9))
    assert torch.allclose(stream.directions, batch.directions, atol=1e-6)


def test_the_rotation_is_carried_but_where_a_class_is_new():
    """A class among those whose number is lower counts as new as well."""
    stream = StreamingITQCCA(10, 8).double()
    early = LABELS != 1
    x, y = FEATURES[early], LABELS[early]
    stream.partial_fit(x[:200], y[:200])
    carried = float(stream.partial_fit(x[200:300], y[200:300]).flipped.mean())
    fresh = float(stream.partial_fit(FEATURES[:100], LABELS[:100]).flipped.mean())
    assert carried < 0.2 < fresh
    assert float(stream.partial_fit(FEATURES[100:200], LABELS[100:200]).flipped.mean()) < 0.2


def test_a_half_life_follows_labels_that_change_their_meaning():
    # From the middle on, classes lie elsewhere.
    turned = 3 + CENTRES.flip(1)[LABELS] + torch.randn(600, 10, generator=seeded(4), dtype=torch.float64)
    separation = {}
    for half_life in (100.0, None):
        stream = StreamingITQCCA(10, 8, half_life=half_life).double()
        for x in (FEATURES, turned):
            for rows in torch.arange(600).split(100):
                stream.partial_fit(x[rows], LABELS[rows])
        codes = stream(turned) >= 0
        apart = (codes[:, None] != codes[None]).sum(-1).double()
        same = LABELS[:, None] == LABELS[None]
        separation[half_life] = float(apart[~same].mean() - apart[same].mean())
    assert separation[100.0] > 1.1 * separation[None] > 0


def test_a_first_batch_of_one_class_is_refused():
    with pytest.raises(InvalidInputError, match="the labels of all 100 items so far are the same"):
        StreamingITQCCA(10, 8).double().partial_fit(FEATURES[:100], torch.zeros(100, dtype=torch.int64))
