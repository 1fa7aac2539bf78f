"""The index on GPUs: its devices, its segments, and on a GPU its searches."""

import numpy as np
import pytest
import torch
from item_list import ItemList

import deephash
from deephash.indexes import gpu
from deephash.validation import InvalidInputError

CODES = np.random.default_rng(0).integers(0, 256, (300, 8), dtype=np.uint8)


def test_devices_share_the_rows_and_take_added_ones(monkeypatch):
    monkeypatch.setattr(gpu, "MIN_CAPACITY", 8)
    index = deephash.index(CODES[:200], "gpu", device=["cpu", "cpu", "cpu"])
    assert [(each.first, each.count) for each in index._segments] == [(0, 66), (66, 67), (133, 67)]
    for start in range(200, 300, 5):
        index.add(CODES[start : start + 5])
    ends = [each.first + each.count for each in index._segments]
    assert [each.first for each in index._segments] == [0, *ends[:-1]]
    assert ends[-1] == 300
    assert len(ends) > 3
    expected = deephash.index(CODES, "flat").search(CODES[:7], 20)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(index.search(CODES[:7], 20), expected, strict=True))
    index.remove(range(0, 300, 2))
    kept = deephash.index(CODES[1::2], "flat").search(CODES[:7], 20)
    for _ in range(2):  # The second search uses the same mask of removed rows.
        distances, ids = index.search(CODES[:7], 20)
        assert torch.equal(distances, kept[0])
        assert torch.equal(ids, 2 * kept[1] + 1)
    assert index._kept is not None


def test_more_devices_than_codes():
    index = deephash.index(CODES[:2], "gpu", device=["cpu"] * 3)
    assert index.search(CODES[:1], 2)[1].shape == (1, 2)
    assert index.within(CODES[:1], 64).ids.sort().values.tolist() == [0, 1]


@pytest.mark.parametrize("device", ["gpux", "", 3.5])
def test_unknown_devices_are_refused(device):
    with pytest.raises(InvalidInputError, match="is no device of torch; write cuda"):
        deephash.index(CODES, "gpu", device=[device])


def test_no_device_is_refused():
    with pytest.raises(InvalidInputError, match=r"device=\[\]; name at least one device"):
        deephash.index(CODES, "gpu", device=[])
    with pytest.raises(InvalidInputError, match="block_bytes=3"):
        deephash.index(CODES, "gpu", device="cpu", block_bytes=3)


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(
        InvalidInputError, match=r"device='cuda' needs a CUDA device.* choose kind=flat or mih"
    ) as error:
        deephash.index(CODES, "gpu")
    assert "\n" not in str(error.value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InvalidInputError, match="device='cuda:2' is not here; there are cuda:0 to cuda:1"):
        deephash.index(CODES, "gpu", device=["cuda:0", "cuda:2"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bits", [7, 64, 256])
@pytest.mark.parametrize("devices", [["cuda"], ["cuda", "cuda"]])
def test_changes_on_a_gpu(bits, devices, tmp_path):
    model = ItemList("gpu", "words", bits, np.random.default_rng(3), 3000, device=devices)
    for operation in ("add", "remove", "update", "add", "remove_most", "add", "reload", "remove", "compact", "add"):
        getattr(model, operation)(*((tmp_path,) if operation == "reload" else ()))
        model.check()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bits", [64, 100])
def test_many_codes_on_a_gpu(bits, clustered_codes):
    codes, queries = clustered_codes(300_000, bits, 0), clustered_codes(50, bits, 1)
    index, flat = deephash.index(codes, "gpu", bits=bits), deephash.index(codes, "flat", bits=bits)
    mask = np.random.default_rng(0).random(300_000) < 0.1
    for where in (None, mask):
        found, expected = index.search(queries, 100, where=where), flat.search(queries, 100, where=where)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    within, expected = index.within(queries, bits // 8), flat.within(queries, bits // 8)
    for part in ("offsets", "distances", "ids"):
        assert torch.equal(getattr(within, part), getattr(expected, part))
