"""Figures beside those of the codes: of the float vectors, and of candidates that a float query orders again."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deephash.affinity.judgements import Judgements
from deephash.codes import unpack
from deephash.evaluation.view_scores import Evaluation
from deephash.hashers.hasher import Hasher
from deephash.metrics.graded_ranking import linear_gains
from deephash.metrics.hamming_retrieval import exact_mean
from deephash.metrics.user_metric import GRADED
from deephash.quantizers.sbq import SBQ
from deephash.ranking.relevance import Neighbours, count_queries, neighbour_queries

NDCG_DEPTH, RECALL_DEPTH = 10, 100
"""Depths of the figures that BEIR reports."""
CANDIDATES = 1000
"""Candidates by Hamming distance that the float query orders again, as in Yamada et al., ACL 2021."""
BLOCK_SCORES = 2**26
"""Scores of pairs in memory at a time."""


def score_references(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Score other rankings of the same queries, for data with judgements.

    "codes" is the ranking by Hamming distance, with its expected figures over the orders of tied items. "float_query"
    is that of the 1,000 nearest codes, ordered by the inner product of the query's float margins with the bits ±1.
    "vectors" is that of the features of the data by cosine.

    Args:
        evaluation: scores of a hasher, by one process.

    Returns:
        nDCG@10 and recall@100 by name, as `score_ranking` computes them; empty for other data, and for two views.
    """
    hasher, truth = evaluation.hasher, evaluation.truth
    if not isinstance(truth.definition, Judgements) or not isinstance(hasher, Hasher):
        return {}
    queries, database = (truth.data.part(role) for role in evaluation.roles)
    relevance = truth.relevance_of_roles(*evaluation.roles)
    if not isinstance(queries.features, Tensor) or not isinstance(relevance, Neighbours):
        return {}
    references = {"codes": select_figures(evaluation.results)}
    ((_, coded),) = evaluation.database.items()
    if isinstance(hasher.quantizer, SBQ):
        codes = coded.codes[coded.positions.argsort()]
        features = queries.features.to(codes.device)
        # The trainer has moved the weights to the CPU.
        hasher.to(codes.device)
        margins = hasher.project(features) - hasher.quantizer.thresholds.detach()
        depth = min(CANDIDATES, len(codes))
        _, candidates = evaluation.ranking.search(hasher.encode(features), codes, hasher.distance, depth)
        ranked = order_candidates(margins, codes, candidates, min(RECALL_DEPTH, depth))
        references["float_query"] = score_ranking(ranked.cpu(), relevance)
    references["vectors"] = score_ranking(rank_by_cosine(queries.features, database.features), relevance)
    return {name: figures for name, figures in references.items() if figures}


def select_figures(results: Mapping[str, float]) -> dict[str, float]:
    """Return nDCG@10, with grades if there are any, and recall@100 of a run's metrics, if they were computed."""
    ndcg, recall = f"nDCG@{NDCG_DEPTH}", f"recall@{RECALL_DEPTH}"
    graded = f"nDCG{GRADED}@{NDCG_DEPTH}"
    names = {ndcg: graded if graded in results else ndcg, recall: recall}
    return {figure: results[name] for figure, name in names.items() if name in results}


def rank_by_cosine(queries: Tensor, items: Tensor) -> Tensor:
    """Return the rows of the 100 items of the largest cosines, int64 (q, 100), or of all items if there are fewer.

    Args:
        queries: floating (q, d).
        items: floating (N, d).
    """
    items = torch.nn.functional.normalize(items)
    depth = min(RECALL_DEPTH, len(items))
    blocks = torch.split(torch.nn.functional.normalize(queries), max(1, BLOCK_SCORES // len(items)))
    return torch.cat([(block @ items.T).topk(depth).indices for block in blocks])


def order_candidates(margins: Tensor, codes: Tensor, candidates: Tensor, k: int) -> Tensor:
    """Return the k candidates of each query with the largest inner products of its margins and their bits ±1.

    Equal products keep the order of the candidates.

    Args:
        margins: floating (q, b), projections of the queries minus thresholds.
        codes: packed codes of the items, uint8 (N, ⌈b/8⌉).
        candidates: int64 (q, c), rows of the items.
        k: at most c.

    Returns:
        int64 (q, k), rows of the items.
    """
    bits = margins.shape[1]
    rows = max(1, BLOCK_SCORES // (candidates.shape[1] * bits))
    ordered = []
    for query, ids in zip(torch.split(margins, rows), torch.split(candidates, rows), strict=True):
        signs = unpack(codes[ids.flatten()], bits).to(query.dtype).view(*ids.shape, bits) * 2 - 1
        scores = torch.bmm(signs, query[:, :, None])[:, :, 0]
        ordered.append(ids.gather(1, scores.argsort(dim=1, descending=True, stable=True)[:, :k]))
    return torch.cat(ordered)


def score_ranking(ids: Tensor, relevance: Neighbours) -> dict[str, float]:
    """Compute nDCG@10 and recall@100 of ranked items, as trec_eval does: an item of grade g gains g.

    Args:
        ids: int64 (q, k), items of each query, nearest first; items beyond k count as not found.
        relevance: relevant items of the queries.

    Returns:
        Means over the queries that have a relevant item.
    """
    queries, size = count_queries(relevance), relevance.database_size
    grades = torch.ones_like(relevance.ids) if relevance.grades is None else relevance.grades
    # Pairs of query and item as one number, ascending as in `relevance`.
    known = neighbour_queries(relevance) * size + relevance.ids
    asked = torch.arange(queries)[:, None] * size + ids
    places = torch.searchsorted(known, asked).clamp_max(max(0, len(known) - 1))
    found = grades[places] * (known[places] == asked) if len(known) else torch.zeros_like(asked)
    best = torch.zeros(queries, NDCG_DEPTH, dtype=torch.int64)
    for row, (start, stop) in enumerate(relevance.offsets.unfold(0, 2, 1).tolist()):
        highest = grades[start:stop].sort(descending=True).values[:NDCG_DEPTH]
        best[row, : len(highest)] = highest
    relevant = relevance.offsets.diff().double()
    missing = relevant == 0
    recall = (found[:, :RECALL_DEPTH] > 0).sum(1) / relevant
    ndcg = discount(found[:, :NDCG_DEPTH], relevance.highest_grade) / discount(best, relevance.highest_grade)
    figures: dict[str, Any] = {f"nDCG@{NDCG_DEPTH}": ndcg, f"recall@{RECALL_DEPTH}": recall}
    return {name: float(exact_mean(values.masked_fill(missing, torch.nan))) for name, values in figures.items()}


def discount(grades: Tensor, highest: int) -> Tensor:
    """Return the discounted sum of the linear gains of grades (q, k) in ranked order, float64 (q,)."""
    ranks = torch.arange(1, grades.shape[1] + 1, dtype=torch.float64)
    return (linear_gains(highest)[grades] / torch.log2(ranks + 1)).sum(1)
