"""The store of a stream: every item while they fit, a uniform sample beyond, and the same after a restore."""

import torch

from deephash.streams.database import StreamDatabase


def filled(count, capacity, seed=0):
    database = StreamDatabase(capacity, 1, 16, torch.zeros(1, dtype=torch.int64))
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, 25):
        numbers = torch.arange(start, start + 25)
        codes = torch.stack([numbers % 256, numbers // 256], 1).to(torch.uint8)
        database.add(numbers[:, None].float(), numbers, numbers % 3 > 0, codes, start // 25, generator)
    return database


def numbers_of(database):
    codes = database.codes.long()
    return codes[:, 0] + 256 * codes[:, 1]


def test_all_items_are_there_while_they_fit():
    database = filled(100, 100)
    assert len(database) == 100
    assert numbers_of(database).tolist() == list(range(100))
    assert database.code_versions.tolist() == [i // 25 for i in range(100)]


def test_beyond_it_is_a_sample_whose_parts_stay_together():
    database = filled(1000, 100)
    numbers = numbers_of(database)
    assert len(set(numbers.tolist())) == 100
    assert torch.equal(database.features[:, 0].long(), numbers)
    assert torch.equal(database.labels, numbers)
    assert torch.equal(database.learnable, numbers % 3 > 0)
    assert torch.equal(database.code_versions, numbers // 25)
    # A mean of 500 with a standard deviation of 29.
    assert abs(float(numbers.float().mean()) - 500) < 100


def test_a_restored_one_is_the_same():
    database, other = filled(300, 100), StreamDatabase(100, 1, 16, torch.zeros(1, dtype=torch.int64))
    other.restore(database.state())
    assert other.seen == 300
    for name in ("features", "labels", "learnable", "codes", "code_versions"):
        assert torch.equal(getattr(other, name), getattr(database, name))


def test_new_codes_take_the_place_of_old_ones():
    database = filled(50, 100)
    database.replace(torch.tensor([3, 40]), torch.full((2, 2), 255, dtype=torch.uint8), 9)
    assert database.code_versions[torch.tensor([3, 40])].tolist() == [9, 9]
    assert int((database.codes == 255).all(1).sum()) == 2
