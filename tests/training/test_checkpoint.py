"""Checkpoints without pickle: round trips, and errors for everything that cannot be stored or read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.training.checkpoint import SafetensorsCheckpoint
from deephash.validation import InvalidInputError

WORDS = st.sampled_from(["tensor", "mapping", "tuple", "list", "weight", ""])
LEAVES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | WORDS
SIZES = st.lists(st.integers(0, 3), max_size=3)
TENSORS = st.builds(
    lambda size, kind: torch.arange(int(torch.tensor(size).prod()) if size else 1).reshape(size).to(kind),
    SIZES,
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.bfloat16]),
)
STATES = st.recursive(
    LEAVES | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(WORDS | st.integers(0, 5), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@settings(max_examples=60, deadline=None)
@given(state=STATES)
def test_round_trip(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "last.safetensors"
    checkpoint = {"state": state, "epoch": 3}
    SafetensorsCheckpoint().save_checkpoint(checkpoint, path)
    assert same(SafetensorsCheckpoint().load_checkpoint(path), checkpoint)


def test_tensors_that_share_memory(tmp_path):
    weight = torch.arange(6.0)
    SafetensorsCheckpoint().save_checkpoint(
        {"now": weight, "part": weight[2:4], "turned": weight.view(2, 3).T}, tmp_path / "c"
    )
    read = SafetensorsCheckpoint().load_checkpoint(tmp_path / "c")
    assert same(read, {"now": weight, "part": weight[2:4], "turned": weight.view(2, 3).T})


def test_optimiser_goes_on_as_if_it_had_not_stopped(tmp_path):
    def trained(stop_after=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for step in range(6):
            if step == stop_after:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                SafetensorsCheckpoint().save_checkpoint(state, tmp_path / "c")
                state = SafetensorsCheckpoint().load_checkpoint(tmp_path / "c")
                model = torch.nn.Linear(3, 2)
                optimizer = torch.optim.AdamW(model.parameters(), lr=5.0)
                model.load_state_dict(state["model"])
                optimizer.load_state_dict(state["optimizer"])
            optimizer.zero_grad()
            model(torch.full((4, 3), step + 1.0)).square().sum().backward()
            optimizer.step()
        return model.weight

    assert torch.equal(trained(), trained(stop_after=3))


def test_what_json_cannot_hold_is_refused_by_its_place(tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"checkpoint\.callbacks\.mine is a set, which a checkpoint cannot store"
    ):
        SafetensorsCheckpoint().save_checkpoint({"callbacks": {"mine": {1, 2}}}, tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-10], lambda raw: raw[:5], lambda raw: b"", lambda raw: b"\0" * 40])
def test_damaged_files_are_refused(tmp_path, spoil):
    SafetensorsCheckpoint().save_checkpoint({"weight": torch.ones(100)}, tmp_path / "c")
    (tmp_path / "c").write_bytes(spoil((tmp_path / "c").read_bytes()))
    with pytest.raises(InvalidInputError, match="is not readable as a checkpoint"):
        SafetensorsCheckpoint().load_checkpoint(tmp_path / "c")
    with pytest.raises(InvalidInputError, match="none does not exist; expected a checkpoint there"):
        SafetensorsCheckpoint().load_checkpoint(tmp_path / "none")
