"""Rankings beside that of the codes: their measures against an independent implementation, and float queries."""

import numpy as np
import pytest
import torch

from deephash.codes import pack
from deephash.evaluation.scoring import ScoreSettings, score_codes
from deephash.evaluation.text_references import order_candidates, rank_by_cosine, score_ranking
from deephash.metrics import NDCG
from deephash.ranking.distance import Hamming
from deephash.ranking.relevance import Neighbours, select_items, select_queries
from deephash.validation import InvalidInputError


@pytest.fixture
def judged():
    """Grades 0 to 3 of 150 items for 12 queries, of which the last has no relevant item."""
    draw = np.random.default_rng(0)
    grades = draw.choice(4, p=[0.9, 0.05, 0.03, 0.02], size=(12, 150))
    grades[-1] = 0
    rows, ids = np.nonzero(grades)
    offsets = np.concatenate([[0], np.bincount(rows, minlength=12).cumsum()])
    listed = (torch.from_numpy(part) for part in (offsets, ids))
    return grades, Neighbours(*listed, 150, torch.from_numpy(grades[rows, ids]), highest_grade=3)


def test_measures_equal_ir_measures(judged):
    measures = pytest.importorskip("ir_measures")
    grades, relevance = judged
    draw = np.random.default_rng(1)
    ids = np.stack([draw.permutation(150)[:120] for _ in range(12)])
    run = [measures.ScoredDoc(str(q), str(i), -float(rank)) for q in range(11) for rank, i in enumerate(ids[q])]
    qrels = [measures.Qrel(str(q), str(i), int(grades[q, i])) for q in range(11) for i in range(150)]
    theirs = measures.calc_aggregate([measures.nDCG @ 10, measures.R @ 100], qrels, run)
    ours = score_ranking(torch.from_numpy(ids), relevance)
    assert ours["nDCG@10"] == pytest.approx(theirs[measures.nDCG @ 10], abs=1e-9)
    assert ours["recall@100"] == pytest.approx(theirs[measures.R @ 100], abs=1e-9)


def test_graded_figures_of_codes_equal_those_of_their_order_without_ties(judged):
    """150 codes at distinct distances from each query: a run of ones that starts at a place of its own."""
    _, relevance = judged
    bits = torch.arange(160)[None] < torch.from_numpy(np.random.default_rng(2).permutation(150))[:, None]
    codes, queries = pack(bits), pack(torch.zeros(12, 160, dtype=torch.bool))
    ids = bits.sum(1).argsort().expand(12, -1)
    settings = ScoreSettings(at=(100,), user_metrics=(NDCG(gains="linear"),))
    found = score_codes(queries, codes, relevance, Hamming(160), settings=settings).results
    ours = score_ranking(ids, relevance)
    assert found["nDCG_graded@10"] == pytest.approx(ours["nDCG@10"], abs=1e-12)
    assert found["recall@100"] == pytest.approx(ours["recall@100"], abs=1e-12)
    assert found["skipped_queries"] == 1
    exponential = score_codes(
        queries, codes, relevance, Hamming(160), settings=ScoreSettings(user_metrics=(NDCG(),))
    ).results
    assert exponential["nDCG@10"] == found["nDCG@10"]
    assert exponential["nDCG_graded@10"] != found["nDCG_graded@10"]
    with pytest.raises(InvalidInputError, match="gains='cubic'; expected one of: exponential, linear"):
        NDCG(gains="cubic")


def test_grades_follow_their_items(judged):
    grades, relevance = judged
    part = select_items(select_queries(relevance, 2, 7), 30, 90)
    rows, ids = np.nonzero(grades[2:7, 30:90])
    assert part.ids.tolist() == ids.tolist()
    assert part.grades.tolist() == grades[2:7, 30:90][rows, ids].tolist()
    assert part.at_least(2).ids.tolist() == np.nonzero(grades[2:7, 30:90] >= 2)[1].tolist()
    with pytest.raises(InvalidInputError, match=r"neighbour grades are from 1 to 3; expected 1 to highest_grade=2"):
        Neighbours(relevance.offsets, relevance.ids, 150, relevance.grades, highest_grade=2)


def test_a_float_query_orders_candidates_by_its_products_with_signs():
    generator = torch.Generator().manual_seed(0)
    bits, margins = torch.rand(50, 20, generator=generator) > 0.5, torch.randn(4, 20, generator=generator)
    candidates = torch.stack([torch.randperm(50, generator=generator)[:30] for _ in range(4)])
    ordered = order_candidates(margins, pack(bits), candidates, 10)
    for query, ids, found in zip(margins, candidates.tolist(), ordered.tolist(), strict=True):
        scores = {row: sum(v if bit else -v for v, bit in zip(query.tolist(), bits[row], strict=True)) for row in ids}
        assert found == sorted(ids, key=lambda row: -scores[row])[:10]


def test_vectors_are_ranked_by_cosine():
    items = torch.tensor([[2.0, 0.0], [0.1, 0.1], [-1.0, 0.0]])
    assert rank_by_cosine(torch.tensor([[0.3, 0.29]]), items).tolist() == [[1, 0, 2]]
