"""The cost model of docs/scale.md: operation counts equal to those of the index, and a law that agrees with theory."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deephash.indexes.flat import Flat
from deephash.indexes.mih import MIH

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "cost_model.py"


@pytest.fixture(scope="module")
def model():
    specification = importlib.util.spec_from_file_location("cost_model", SCRIPT)
    module = sys.modules["cost_model"] = importlib.util.module_from_spec(specification)  # Its dataclasses look there.
    specification.loader.exec_module(module)
    yield module
    del sys.modules["cost_model"]


def codes_with_free_bits(free, rows, seed):
    """Codes of which so many bits are fair coins and the others 0, uint8 (rows, 8)."""
    bits = np.zeros((rows, 64), bool)
    bits[:, :free] = np.random.default_rng(seed).random((rows, free)) < 0.5
    return np.packbits(bits, axis=1, bitorder="little")


def near_some_centres(rows, seed):
    centres = np.random.default_rng(0).random((40, 64)) < 0.5
    draw = np.random.default_rng(seed)
    bits = centres[draw.integers(0, 40, rows)] ^ (draw.random((rows, 64)) < 0.08)
    return np.packbits(bits, axis=1, bitorder="little")


def random_codes(rows, seed):
    return codes_with_free_bits(64, rows, seed)


def half_free(rows, seed):
    return codes_with_free_bits(40, rows, seed)


@pytest.mark.parametrize(
    ("draw", "rows", "tables", "scans"), [(near_some_centres, 60_000, 4, False), (random_codes, 20_000, 3, True)]
)
def test_work_of_a_known_distance_is_the_index_s_own(model, draw, rows, tables, scans):
    codes, queries = draw(rows, 1), draw(30, 2)
    index = MIH(torch.from_numpy(codes), 64, tables=tables)
    distances = index.search(torch.from_numpy(queries), 10)[0][:, -1].numpy()
    assert distances.min() > 0
    sample = model.Sample(model.view_words(codes), model.view_words(queries))
    known = np.eye(65)[distances]
    said = model.predict_work(sample, rows, 10, tables, known)
    done = model.collect_work(distances, index.looked_at)
    for name in ("distance", "buckets", "candidates", "scanned"):
        assert np.allclose(getattr(said, name), getattr(done, name)), name
    assert (done.scanned > 0).any() == scans  # Far neighbours of few codes would take too many buckets.


def test_buckets_of_a_step_are_the_values_at_its_distance(model):
    for step, found in enumerate(model.count_buckets(5)[:12]):
        length, radius = model.substring_lengths(64, 5)[step % 5], step // 5
        assert round(found) == (np.bitwise_count(np.arange(2**length)) == radius).sum()


@pytest.mark.parametrize("free", [12, 24, 64])
def test_the_law_finds_the_bits_that_are_free(model, free):
    sample = model.Sample(
        *(model.view_words(codes_with_free_bits(free, rows, seed)) for rows, seed in ((5_000, 1), (80, 2)))
    )
    assert np.median(sample.free_bits) == pytest.approx(free, rel=0.15)


def test_copies_have_no_free_bits(model):
    sample = model.Sample(np.zeros(500, np.uint64), np.zeros(2, np.uint64))
    assert sample.free_bits.tolist() == [0, 0]
    assert model.compute_distance_chances(sample.within, 10**9, 10)[:, 0].tolist() == [1, 1]


@pytest.mark.parametrize("draw", [near_some_centres, half_free])
def test_a_sample_foretells_distances_in_a_hundred_times_as_many(model, draw):
    codes, queries = draw(200_000, 1), draw(100, 2)
    found = Flat(torch.from_numpy(codes), 64).search(torch.from_numpy(queries), 10)[0][:, -1].double().numpy()
    sample = model.Sample(model.view_words(codes[:2_000]), model.view_words(queries))
    said = model.compute_distance_chances(sample.within, len(codes), 10) @ np.arange(65)
    assert said.mean() == pytest.approx(found.mean(), abs=0.75)
    assert said.mean() < (sample.counts.cumsum(1) >= 10).argmax(1).mean() - 2  # In the sample they lie farther.


def test_random_codes_are_as_their_formula_has_them(model):
    codes = random_codes(100_000, 1)
    sample = model.Sample(model.view_words(codes), model.view_words(random_codes(50, 2)))
    said, exact = (model.predict_work(one, 1e6, 10, 3) for one in (sample, model.Uniform()))
    for name in ("distance", "buckets", "candidates"):
        assert getattr(said, name).mean() == pytest.approx(getattr(exact, name).mean(), rel=0.1), name


def test_chances_of_a_distance_are_poisson_s(model):
    within = np.concatenate([[0.1, 0.5], np.ones(63)])[None]
    chances = model.compute_distance_chances(within, 10, 2)
    nearer = np.random.default_rng(0).poisson(1, 200_000)  # Items at distance 0.
    assert chances[0, 0] == pytest.approx((nearer >= 2).mean(), abs=0.01)
    assert chances.sum() == pytest.approx(1)


def test_large_tables_are_never_left_for_a_scan(model):
    buckets, nothing = model.count_buckets(3).cumsum(), np.zeros((1, 65))
    assert model.limit_steps(buckets, nothing, 10**9) == 65
    assert model.limit_steps(buckets, nothing, 10**6) < 65
    assert model.limit_steps(buckets, nothing + 10**6, 10**6) == 1  # The first step's candidates were too many.


def test_the_fit_finds_what_each_kind_of_work_costs(model):
    work = np.random.default_rng(0).random((40, 3)) * [1, 100, 10_000]
    assert np.allclose(model.fit_seconds(work, work @ [3e-6, 1e-7, 2e-9]), [3e-6, 1e-7, 2e-9])
