"""Modality bias against plain loops: the view that fills the first ranks, ties in every order, and agreeing bits."""

from itertools import permutations

import numpy as np
import pytest
import torch

from deephash.codes import pack
from deephash.evaluation.modality_bias import ModalityBias, bit_agreement, own_view_share
from deephash.ranking.distance import Hamming
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError


def random_bits(items, bits, seed):
    return torch.rand(items, bits, generator=torch.Generator().manual_seed(seed)) < 0.5


def share_over_all_orders(query, database, view, depth):
    """Mean share of a view among the first places over every order of tied items, by writing the orders out."""
    items = [(int((query != code).sum()), name) for name, codes in database.items() for code in codes]
    shares = []
    for order in permutations(items):
        ranked = sorted(order, key=lambda item: item[0])  # stable, so each order of ties comes up equally often
        shares.append(np.mean([name == view for _, name in ranked[:depth]]))
    return np.mean(shares)


@pytest.mark.parametrize("depth", [1, 2, 4, 6])
def test_share_of_the_own_view_is_its_mean_over_all_orders_of_ties(depth):
    queries = random_bits(5, 3, seed=0)
    database = {"image": random_bits(2, 3, seed=1), "text": random_bits(4, 3, seed=2)}
    expected = np.mean([share_over_all_orders(query, database, "text", depth) for query in queries])
    packed = {name: pack(bits) for name, bits in database.items()}
    share = own_view_share(pack(queries), packed, "text", Hamming(3), TorchEngine(), depth)
    assert share == pytest.approx(expected, abs=1e-12)


def test_a_view_that_lies_apart_finds_itself_alone():
    image, text = torch.zeros(20, 8, dtype=torch.bool), torch.ones(30, 8, dtype=torch.bool)
    database = {"image": pack(image), "text": pack(text)}
    assert own_view_share(pack(image[:3]), database, "image", Hamming(8), TorchEngine(), 20) == 1
    # All tied: the share in the database.
    same = {"image": pack(image), "text": pack(torch.zeros(30, 8, dtype=torch.bool))}
    assert own_view_share(pack(image[:3]), same, "image", Hamming(8), TorchEngine(), 10) == pytest.approx(0.4)


def test_a_depth_beyond_the_database_is_refused():
    codes = {"image": pack(random_bits(3, 8, 0)), "text": pack(random_bits(2, 8, 1))}
    with pytest.raises(InvalidInputError, match="depth=6 exceeds the 5 codes of both views"):
        own_view_share(codes["image"], codes, "image", Hamming(8), TorchEngine(), 6)


def test_agreement_counts_pairs_bit_by_bit(monkeypatch):
    monkeypatch.setattr("deephash.evaluation.modality_bias.BLOCK_PAIRS", 7)
    one, other = random_bits(50, 11, 3), random_bits(50, 11, 4)
    counted = [sum(bool(one[i, j] == other[i, j]) for i in range(50)) / 50 for j in range(11)]
    at_random = [np.mean([[bool(a == b) for b in other[:, j]] for a in one[:, j]]) for j in range(11)]
    agreement, chance = bit_agreement(pack(one), pack(other), 11)
    assert agreement.tolist() == pytest.approx(counted)
    assert chance.tolist() == pytest.approx(at_random)
    assert bit_agreement(pack(one), pack(~one), 11)[0].tolist() == [0] * 11
    assert bit_agreement(pack(one[:0]), pack(one[:0]), 11)[0].isnan().all()


def test_a_bit_that_never_varies_agrees_no_more_than_by_chance():
    constant = torch.ones(40, 8, dtype=torch.bool)
    agreement, chance = bit_agreement(pack(constant), pack(constant), 8)
    assert agreement.tolist() == chance.tolist() == [1] * 8


def bias(image_to_text=0.2, text_to_image=0.2, own=(0.5, 0.5), agreement=0.8):
    scores = {"image_to_text": image_to_text, "text_to_image": text_to_image, "image_to_image": 0.9}
    shares = dict(zip(("image", "text"), own, strict=True))
    halves = {"image": 0.5, "text": 0.5}
    bits = torch.full((8,), 0.5, dtype=torch.float64)
    return ModalityBias(scores, 50, shares, halves, bits + (agreement - 0.5), bits)


def test_alike_views_give_no_warning():
    # Within a view the score is another task's, and no part of the gap.
    assert bias().gap == 0
    assert bias(0.2, 0.151).warnings() == []
    assert bias(own=(0.69, 0.3)).warnings() == []


def test_directions_far_apart_are_told():
    (line,) = bias(0.3, 0.2).warnings()
    assert line.startswith("modality bias: text_to_image has mAP 0.2000 and image_to_text 0.3000, 33% apart;")


def test_a_view_that_crowds_out_the_other_is_told():
    (line,) = bias(own=(0.95, 0.45)).warnings()
    assert line.startswith("modality bias: for queries of image, 95% of the first 50 items are also of image,")


def test_bits_that_agree_by_chance_are_told():
    (line,) = bias(agreement=0.52).warnings()
    assert line.startswith("modality bias: the two views of a pair agree in 52% of their bits, where chance gives 50%;")


def test_everything_is_written():
    written = bias(0.3, 0.2).as_dict()
    assert written["gap"] == pytest.approx(1 / 3)
    assert written["bit_agreement"] == pytest.approx(0.8)
    assert written["bit_agreement_by_bit"] == [0.8] * 8
    assert bias(0.0, 0.0).gap == 0
