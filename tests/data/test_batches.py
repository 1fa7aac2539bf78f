"""Batches of joint training: the same for a seed and an epoch, for any number of processes."""

import pytest
import torch

from deephash.data.batches import EpochBatches, build_batch_loader
from deephash.data.items import Part
from deephash.validation import InvalidInputError


def batches(epoch=0, **settings):
    found = EpochBatches(**{"items": 50, "batch_size": 16, "seed": 3, **settings})
    found.set_epoch(epoch)
    return list(found)


def test_batches_are_disjoint_and_of_one_size():
    found = batches()
    assert [len(rows) for rows in found] == [16, 16, 16]
    assert len(torch.cat(found).unique()) == 48
    assert len(EpochBatches(50, 16, 3)) == 3


def test_seed_and_epoch_fix_the_order_and_nothing_else_does():
    torch.manual_seed(1)
    first = batches(epoch=4)
    torch.manual_seed(2)
    assert all(map(torch.equal, first, batches(epoch=4)))
    assert not torch.equal(first[0], batches(epoch=5)[0])
    assert not torch.equal(first[0], batches(epoch=4, seed=4)[0])


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batches_of_one(processes):
    # 16 items for 3 processes are 15: equal shares.
    whole = batches(batch_size=16 // processes * processes)
    shares = [batches(rank=rank, processes=processes) for rank in range(processes)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert len({len(part) for part in parts}) == 1
        assert torch.equal(torch.cat(parts).sort().values, batch.sort().values)


def test_a_small_training_part_is_one_batch():
    assert [len(rows) for rows in batches(batch_size=512)] == [50]


def test_loader_gives_the_rows_items():
    part = Part(torch.arange(100, 150), torch.arange(50.0)[:, None].expand(50, 2), torch.arange(50) % 5)
    for batch in build_batch_loader(part, EpochBatches(50, 16, 0)):
        assert torch.equal(batch["features"][:, 0], batch["positions"].float())
        assert torch.equal(batch["labels"], batch["positions"] % 5)


def test_what_gives_no_pairs_is_refused():
    for settings in ({"batch_size": 1}, {"items": 1}, {"batch_size": 2, "processes": 3}):
        with pytest.raises(InvalidInputError, match=r"train\.batch_size="):
            batches(**settings)
    with pytest.raises(InvalidInputError, match=r"train\.batch_size=0"):
        batches(batch_size=0)


def test_an_order_of_the_user_s_own():
    def by_class(labels):
        return labels.argsort(kind="stable")

    labels = torch.arange(50) % 5
    found = batches(order=by_class, labels=labels, batch_size=10)
    assert [sorted(set(labels[rows].tolist())) for rows in found] == [[0], [1], [2], [3], [4]]
    with pytest.raises(InvalidInputError, match="returns no rows"):
        batches(order=lambda labels: [], labels=labels)
