"""A reservoir contains every item so far with the same probability."""

import torch

from deephash.functional.reservoir import reservoir_places


def fill(sizes, capacity, generator):
    held, seen = torch.full((capacity,), -1), 0
    for size in sizes:
        rows, places = reservoir_places(seen, size, capacity, generator)
        held[places] = rows + seen
        seen += size
    return held


def test_while_there_is_room_all_are_held_in_order_and_nothing_is_drawn():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert fill([3, 4], 7, generator).tolist() == list(range(7))
    assert torch.equal(generator.get_state(), before)


def test_every_item_is_held_with_the_same_chance():
    generator = torch.Generator().manual_seed(1)
    counts = torch.zeros(40)
    for _ in range(1000):
        held = fill([7, 1, 20, 12], 10, generator)
        assert len(held.unique()) == 10
        counts[held] += 1
    # 1,000 draws with chance 1/4: a standard deviation of 14.
    assert float((counts - 250).abs().max()) < 60
