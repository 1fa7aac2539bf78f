"""Memory-mapped features equal those in memory, and use memory only for the rows that are read."""

import os

import numpy as np
import pytest
import torch

from deephash.command_line.programs.train import train
from deephash.data import arrays
from deephash.data.file_rows import read_features
from deephash.data.mapped_rows import MappedRows, RowFile
from deephash.data.protocols.base import Split
from deephash.data.vectors import write_vectors
from deephash.validation import InvalidInputError

MATRIX = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)


@pytest.fixture
def mapped(monkeypatch):
    """Every file of features stays a file, and blocks of 7 rows are read."""
    monkeypatch.setattr(arrays, "MAPPED_VALUES", 1)
    monkeypatch.setattr("deephash.data.mapped_rows.BLOCK_BYTES", 7 * 4 * 5)


def saved(folder, kind):
    path = folder / f"x.{'fvecs' if kind == 'fvecs' else 'npy'}"
    if kind == "fvecs":
        write_vectors(path, MATRIX)
    else:
        np.save(path, {"float64": MATRIX.astype(np.float64), "columns": np.asfortranarray(MATRIX)}.get(kind, MATRIX))
    return path


@pytest.mark.parametrize("kind", ["npy", "fvecs", "float64", "columns"])
def test_rows_are_those_of_the_file(tmp_path, mapped, kind):
    path = saved(tmp_path, kind)
    rows = MappedRows(RowFile.of(path), MATRIX.shape)
    whole = torch.from_numpy(MATRIX)
    places = torch.tensor([5, 299, 0, 5, 17])
    assert len(rows) == 300
    assert rows.shape == (300, 5)
    assert torch.equal(rows[:], whole)
    assert torch.equal(rows.to("cpu"), whole)
    assert np.array_equal(np.asarray(rows), MATRIX)
    assert torch.equal(rows[3:40], whole[3:40])
    assert torch.equal(rows[::50], whole[::50])
    assert torch.equal(rows[9], whole[9])
    assert torch.equal(rows[places], whole[places])
    some = rows.select(places)
    assert torch.equal(read_features(some), whole[places])
    assert torch.equal(some[1:3], whole[places[1:3]])
    assert torch.equal(some.select(torch.tensor([4, 0]))[:], whole[[17, 5]])
    assert rows[5:5].shape == (0, 5)


def test_a_file_that_changes_is_refused_and_not_mixed(tmp_path, mapped):
    path = saved(tmp_path, "npy")
    rows = MappedRows(RowFile.of(path), MATRIX.shape)
    np.save(path, MATRIX + 1)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InvalidInputError, match=r"x\.npy changed while it was in use; start again"):
        rows[:3]
    path.unlink()
    with pytest.raises(InvalidInputError, match=r"x\.npy changed while it was in use"):
        rows[:3]


@pytest.mark.parametrize("truth", ["label", "nearest_neighbours"])
def test_a_run_is_the_same_from_the_file_as_from_memory(tmp_path, compose_config, monkeypatch, truth):
    path = saved(tmp_path, "npy")
    np.save(tmp_path / "y.npy", np.arange(300) % 3)
    settings = ("data=arrays", f"data.features={path}", f"data.labels={tmp_path / 'y.npy'}", f"truth={truth}")
    fixed = ("protocol.queries=30", "protocol.train=100", "bits=4", "metrics.at=[5]", "figures=false", "logger=none")
    config = compose_config("method=itq", *settings, *fixed)
    rows = {"memory": train(config, tmp_path / "memory").row}
    monkeypatch.setattr(arrays, "MAPPED_VALUES", 1)
    read = []
    monkeypatch.setattr(MappedRows, "_read", count_rows(MappedRows._read, read))
    rows["file"] = train(config, tmp_path / "file").row
    assert read, "nothing was read from the file"
    assert rows["file"]["metrics"] == rows["memory"]["metrics"]
    assert Split.load(tmp_path / "file" / "split.npz").hash == Split.load(tmp_path / "memory" / "split.npz").hash
    weights = [(tmp_path / name / "hasher" / "weights.safetensors").read_bytes() for name in rows]
    assert weights[0] == weights[1]


def count_rows(read, counts):
    def counted(self, rows):
        counts.append(len(rows))
        return read(self, rows)

    return counted


def test_memory_follows_the_sample_that_is_trained_on(tmp_path, mapped):
    """Of a part nothing is read before its rows are asked for; training reads its rows alone."""
    from deephash.data.arrays import Arrays
    from deephash.data.protocols.query_database import QueryDatabase

    path = saved(tmp_path, "npy")
    data = Arrays(QueryDatabase(queries=30, train=40), 0, features=str(path))
    data.setup()
    assert isinstance(data.part("database").features, MappedRows)
    (block,) = data.train_dataloader()
    assert torch.equal(block["features"], torch.from_numpy(MATRIX[data.ids("train")]))
    sizes = [len(block["features"]) for block in data.test_dataloader()[0]]
    assert sum(sizes) == 270


def test_values_that_are_not_finite_are_refused_with_their_number(tmp_path, mapped):
    from deephash.data.arrays import Arrays
    from deephash.data.protocols.query_database import QueryDatabase

    matrix = MATRIX.astype(np.float64)
    matrix[[40, 77], 2] = np.nan
    matrix[90, 1] = 1e300  # beyond float32
    np.save(tmp_path / "x.npy", matrix)
    with pytest.raises(InvalidInputError, match="NaN or infinity in 3 of 300 rows, the first at row 40"):
        Arrays(QueryDatabase(), 0, features=str(tmp_path / "x.npy")).load()
