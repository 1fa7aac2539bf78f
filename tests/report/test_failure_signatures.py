"""The line of each failure signature; sound codes have none."""

import pytest
import torch

from deephash.codes import pack
from deephash.report.diagnostics import bit_diagnostics
from deephash.report.failure_signatures import find_failure_signatures, find_flat_scores


def random_bits(items=2000, bits=16):
    return torch.rand(items, bits, generator=torch.Generator().manual_seed(0)) < 0.5


def signatures(bits, **queries):
    return find_failure_signatures(bit_diagnostics(pack(bits), bits.shape[1]), **queries)


def test_sound_codes_give_no_warning():
    assert signatures(random_bits(), queries=100, skipped_queries=4) == []


def test_dead_bits_are_counted_and_listed():
    bits = random_bits()
    bits[:, 2:12] = True
    (line,) = signatures(bits)
    assert line.startswith(
        "dead bits: 10 of 16 are equal for all 2,000 items (bits 2, 3, 4, 5, 6, 7, 8, 9 and 2 more);"
    )


def test_unbalanced_bits():
    bits = random_bits()
    bits[:, 4] = torch.arange(len(bits)) % 50 == 0
    bits[:, 5] = torch.arange(len(bits)) % 50 != 1
    (line,) = signatures(bits)
    assert line.startswith("unbalanced bits: 2 of 16 are 1 for under 10% or over 90% of the items (bits 4, 5); centre")


def test_a_share_of_exactly_a_tenth_is_balanced():
    bits = random_bits()
    bits[:, 4] = torch.arange(len(bits)) % 10 == 0
    assert signatures(bits) == []


def test_repeated_bits():
    bits = random_bits()
    bits[:, 9] = ~bits[:, 2]
    (line,) = signatures(bits)
    assert line.startswith(
        "correlated bits: 1 of 120 pairs have |correlation| of 0.8 or more, at most 1.000 (bits 2 and 9), and nearly"
    )


def test_bits_that_all_agree_a_little():
    bits = random_bits(bits=15)
    common = torch.rand(2000, 1, generator=torch.Generator().manual_seed(1)) < 0.5
    mixed = torch.where(torch.rand(2000, 15, generator=torch.Generator().manual_seed(2)) < 0.65, common, bits)
    (line,) = signatures(mixed)
    assert line.startswith("correlated bits: the mean |correlation| is 0.4")
    assert "(high from 0.3); centre or whiten" in line


def test_few_items_say_nothing_of_correlation():
    bits = random_bits(items=50)
    bits[:, 9] = bits[:, 2]
    assert signatures(bits) == []


def test_queries_without_a_relevant_item():
    (line,) = signatures(random_bits(), queries=1000, skipped_queries=50)
    assert line.startswith("queries without a relevant item: 50 of 1,000 are left out of the means; widen the truth")
    assert signatures(random_bits(), queries=1000, skipped_queries=49) == []
    assert signatures(random_bits(), queries=0, skipped_queries=0) == []


def test_flat_scores():
    line = find_flat_scores({64: 0.1210, 16: 0.1200, 32: 0.1260})
    assert line == (
        "flat scores: mAP stays between 0.1200 and 0.1260 from 16 to 64 bits; "
        "longer codes add nothing: check the truth, the features and the training part."
    )
    assert "AUPRC" in find_flat_scores({16: 0.1, 32: 0.1}, "AUPRC")


@pytest.mark.parametrize(
    "scores",
    [
        {16: 0.160, 32: 0.165, 64: 0.171},  # ITQ as published: it rises
        {16: 0.130, 32: 0.130, 64: 0.120},  # PCAH as published: it falls, which is no flatness
        {48: 0.175, 64: 0.175},  # too near each other to tell
        {64: 0.1},
        {},
        {16: float("nan"), 64: 0.1},
    ],
)
def test_scores_that_are_not_flat(scores):
    assert find_flat_scores(scores) is None
