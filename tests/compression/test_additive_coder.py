"""Additive codes: the descent against all codes, and the gain over the codes of the hasher."""

import itertools

import numpy as np
import pytest
import torch

from deephash.codes import pack, unpack
from deephash.compression.additive_coder import AdditiveCoder, refine_codes
from deephash.compression.linear_decoder import LinearDecoder
from deephash.hashers.hasher import Hasher
from deephash.projections.itq import ITQ
from deephash.projections.pcah import PCAH
from deephash.quantizers.mhq import MHQ
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError

DIMENSION, BITS = 16, 12


@pytest.fixture(scope="module")
def vectors():
    generator = torch.Generator().manual_seed(0)
    # More rows than a block has, whose dimensions go together.
    mixed = torch.randn(DIMENSION, DIMENSION, generator=generator)
    return torch.randn(9000, DIMENSION, generator=generator) @ mixed / 4 + 0.2


@pytest.fixture(scope="module")
def coder(vectors):
    return AdditiveCoder(Hasher(ITQ(DIMENSION, BITS), SBQ(BITS)).fit(vectors)).fit(vectors)


def errors(decoder, codes, vectors):
    return (decoder.decode(codes) - vectors).square().sum(1)


def test_no_single_bit_is_better_flipped(coder, vectors):
    """What the descent ends at, told bit by bit without its running products."""
    rows = vectors[:200]
    codes = refine_codes(rows, coder.hasher.encode(rows), coder.decoder, sweeps=50)
    least = errors(coder.decoder, codes, rows)
    for bit in range(BITS):
        flipped = unpack(codes, BITS)
        flipped[:, bit] = ~flipped[:, bit]
        assert (errors(coder.decoder, pack(flipped), rows) >= least - 1e-4).all()


def test_descent_comes_near_the_best_of_all_codes(coder, vectors):
    rows = vectors[:200]
    every = pack(torch.tensor(list(itertools.product([False, True], repeat=BITS))))
    best = torch.cdist(rows, coder.decoder.decode(every)).square().amin(1)
    found = errors(coder.decoder, coder.encode(rows), rows)
    assert (found >= best - 1e-4).all()
    hashed = errors(coder.decoder, coder.hasher.encode(rows), rows)
    assert float((found - best).sum()) < 0.2 * float((hashed - best).sum())


def test_no_item_gets_worse_and_the_sum_much_better(coder, vectors):
    codes = coder.hasher.encode(vectors)
    before = errors(coder.decoder, codes, vectors)
    refined = errors(coder.decoder, refine_codes(vectors, codes, coder.decoder, sweeps=8), vectors)
    assert (refined <= before + 1e-4).all()
    after = errors(coder.decoder, coder.encode(vectors), vectors)
    assert float(after.sum()) < float(refined.sum())
    threshold = errors(LinearDecoder.fit(codes, vectors, BITS), codes, vectors)
    assert float(after.sum()) < 0.85 * float(threshold.sum())


def test_neither_step_raises_the_sum_of_errors(coder, vectors):
    codes = coder.hasher.encode(vectors)
    sums = []
    for _ in range(5):
        decoder = LinearDecoder.fit(codes, vectors, BITS)
        sums.append(float(errors(decoder, codes, vectors).sum()))
        codes = refine_codes(vectors, codes, decoder, sweeps=2)
        sums.append(float(errors(decoder, codes, vectors).sum()))
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in itertools.pairwise(sums))
    assert sums[-1] < 0.9 * sums[0]


def test_items_are_coded_each_by_itself(coder, vectors):
    assert torch.equal(coder.encode(vectors)[7:9], coder.encode(vectors[7:9]))
    assert coder.encode(vectors[:0]).shape == (0, 2)
    assert coder.encode(vectors[:5].double()).dtype == torch.uint8


def test_fit_is_the_same_twice(coder, vectors):
    again = AdditiveCoder(coder.hasher).fit(vectors)
    assert torch.equal(again.decoder.directions, coder.decoder.directions)


def test_saved_and_read(coder, vectors, tmp_path):
    coder.save(tmp_path / "coder")
    read = AdditiveCoder.load(tmp_path / "coder")
    assert np.array_equal(read.encode(vectors[:99]), coder.encode(vectors[:99]))


def test_coders_of_earlier_versions_start_from_the_hasher(coder, vectors, tmp_path):
    coder.save(tmp_path / "coder")
    (tmp_path / "coder" / "coder.json").unlink()
    read = AdditiveCoder.load(tmp_path / "coder")
    expected = refine_codes(vectors[:99], coder.hasher.encode(vectors[:99]), coder.decoder, sweeps=8)
    assert np.array_equal(read.encode(vectors[:99]), expected)
    read.save(tmp_path / "again")
    assert AdditiveCoder.load(tmp_path / "again").start == "hasher"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"start": "random"}', '{"start": 1}'])
def test_damaged_settings_are_named(coder, tmp_path, text):
    coder.save(tmp_path / "coder")
    (tmp_path / "coder" / "coder.json").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"coder.json|start="):
        AdditiveCoder.load(tmp_path / "coder")


def test_what_does_not_fit_is_refused(coder, vectors):
    unfitted = AdditiveCoder(coder.hasher)
    with pytest.raises(InvalidInputError, match="the coder is not fitted; call fit"):
        unfitted.encode(vectors)
    with pytest.raises(InvalidInputError, match="ranked by Manhattan; give one with independent bits"):
        AdditiveCoder(Hasher(PCAH(DIMENSION, 4), MHQ(8)))
    with pytest.raises(InvalidInputError, match="8 bits and 16 dimensions; expected the hasher's 12 and 16"):
        AdditiveCoder(coder.hasher, LinearDecoder(torch.zeros(16), torch.zeros(8, 16)))
    with pytest.raises(InvalidInputError, match="training vectors have 15 dimensions"):
        unfitted.fit(vectors[:, 1:])
    with pytest.raises(InvalidInputError, match="rounds=0"):
        unfitted.fit(vectors, rounds=0)
