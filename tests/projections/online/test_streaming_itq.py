"""ITQ of a stream equals ITQ if the sample has all items, and carries its rotation over."""

from itertools import pairwise

import torch

from deephash.projections.itq import ITQ
from deephash.projections.online.moving_projection import quantising_rotation
from deephash.projections.online.streaming_itq import StreamingITQ

GENERATOR = torch.Generator().manual_seed(0)
FEATURES = torch.randn(600, 12, generator=GENERATOR).double() @ torch.randn(12, 12, generator=GENERATOR).double() + 4


def seeded():
    return torch.Generator().manual_seed(9)


def test_with_all_items_held_and_rotations_from_the_start_it_is_itq():
    batch = ITQ(12, 6).double().fit(FEATURES, generator=seeded())
    stream = StreamingITQ(12, 6, carried=False, iterations=50).double()
    for i, part in enumerate(FEATURES.split(100)):
        stream.partial_fit(part, generator=seeded() if i == 0 else None)
    assert torch.allclose(stream.directions, batch.directions, atol=1e-7)
    fitted = StreamingITQ(12, 6, carried=False, iterations=50).double().fit(FEATURES, generator=seeded())
    assert torch.allclose(fitted.directions, batch.directions, atol=1e-7)


def test_a_carried_rotation_changes_fewer_codes():
    flips = {}
    for carried in (True, False):
        stream = StreamingITQ(12, 6, carried=carried, iterations=5).double()
        stream.partial_fit(FEATURES[:300])
        # A sign or the order of components may turn over: codes must not.
        flips[carried] = float(stream.partial_fit(FEATURES[300:]).flipped.mean())
    assert flips[True] < 0.15
    assert flips[True] < flips[False]


def test_rotation_never_raises_the_error():
    projections = FEATURES[:, :6] - FEATURES[:, :6].mean(0)
    start = torch.eye(6, dtype=torch.float64)

    def error(rotation):
        rotated = projections @ rotation
        return float((torch.where(rotated >= 0, 1.0, -1.0) - rotated).square().sum())

    errors = [error(quantising_rotation(projections, start, rounds)) for rounds in range(6)]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(errors))
    assert errors[-1] < errors[0]
    rotation = quantising_rotation(projections, start, 5)
    assert torch.allclose(rotation.T @ rotation, torch.eye(6, dtype=torch.float64), atol=1e-9)


def test_a_full_reservoir_stays_within_its_capacity():
    stream = StreamingITQ(12, 6, capacity=50)
    for part in FEATURES.float().split(60):
        stream.partial_fit(part)
    held = stream.sample
    assert held.shape == (50, 12)
    numbers = [int((FEATURES.float() == row).all(1).nonzero()[0]) for row in held]
    assert len(set(numbers)) == 50
    assert max(numbers) > 400
