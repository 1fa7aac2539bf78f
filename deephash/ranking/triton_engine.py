"""Ranking on a GPU with Triton kernels."""

from typing import final

import torch
import triton
from torch import Tensor

from deephash.ranking import bit_planes
from deephash.ranking import triton_kernels as kernels
from deephash.ranking.base import RankingEngine
from deephash.ranking.bit_planes import BlockedCodes, group_by_label, split_parts
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Distance, Hamming
from deephash.ranking.gpu_forms import (
    FORMS,
    MIN_PLANES_PAIRS,
    Form,
    choose_form,
    choose_lists,
    choose_planes_lists,
)
from deephash.ranking.gpu_lists import LISTS, Lists, find_nearest
from deephash.ranking.plane_queries import PlaneQueries
from deephash.ranking.relevance import Neighbours, Relevance, SharedLabel, neighbour_queries
from deephash.ranking.torch_engine import TorchEngine
from deephash.ranking.triton_pairs import SHARED_BINS, Labels, Pairs
from deephash.validation import InvalidInputError, check_choice

# Up to this many distances, k-th neighbours are found by counting; larger tables would outgrow the lists of
# `TorchEngine`.
LISTED_BINS = 65536


@final
class TritonEngine(RankingEngine):
    """Engine for codes on a CUDA device; relevance is computed in the kernels.

    `rank` counts distances in one of several forms (`gpu_forms`), all with the same counts. `search` finds the distance
    of each query's k-th neighbour, in all items or in a sample of them, and then collects and sorts only the items up
    to that distance; small tables need one launch. `relevant_ranks` orders whole lists with torch's own CUDA kernels
    (`TorchEngine`).

    Args:
        block_bytes: memory of a block of queries.
        form: form of `rank` and `search`, one of `gpu_forms.FORMS`; None chooses by code length and table size.
        lists: way of `search`, one of `gpu_lists.LISTS`; None chooses.

    Raises:
        InvalidInputError: an unknown form or way; when ranking, a form or a way that does not suit the codes.
    """

    def __init__(self, block_bytes: int = 256 * 2**20, form: Form | None = None, lists: Lists | None = None) -> None:
        self._lists = TorchEngine(block_bytes)
        if form is not None:
            check_choice(form, list(FORMS), "form")
        if lists is not None:
            check_choice(lists, list(LISTS), "lists")
        self.form, self.lists = form, lists

    def _rank(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> DistanceCounts:
        _check_device(query_codes)
        pairs, labels = Pairs.from_codes(query_codes, database_codes, distance), Labels.from_relevance(relevance)
        form = choose_form(
            pairs.list_forms(labels.tables),
            bits=pairs.bits,
            queries=len(query_codes),
            items=len(database_codes),
            labels=_count_labels(relevance, len(query_codes) * len(database_codes), forced=self.form == "planes"),
            forced=self.form,
        )
        if form == "planes":
            total, relevant = self._count_planes(query_codes, database_codes, pairs.bits, relevance)
        else:
            total, relevant = pairs.count(labels, form)
        if isinstance(relevance, Neighbours) and len(relevance.ids):
            relevant = torch.zeros(len(query_codes), pairs.bins, dtype=torch.int32, device=query_codes.device)
            pairs.count_listed(neighbour_queries(relevance), relevance.ids.contiguous(), relevant)
        size = distance.maximum + 1
        return DistanceCounts(total[:, :size].to(torch.int64), relevant[:, :size].to(torch.int64))

    def _count_planes(
        self, query_codes: Tensor, database_codes: Tensor, bits: int, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        """Count the items, and those with the query's label, at each distance: int32 (q, b + 1), twice."""
        valid = names = query_labels = part_labels = None
        if isinstance(relevance, SharedLabel):
            database_codes, valid, names, block_counts = group_by_label(database_codes, relevance.database)
            query_labels = relevance.query.contiguous()
        blocks = BlockedCodes.from_codes(database_codes, bits, valid, self._lists.block_bytes)
        if names is None:
            block_counts = torch.tensor([len(blocks.planes)], device=query_codes.device)
        parts, part_names = split_parts(block_counts)
        if names is not None:
            part_labels = names[part_names]
        queries = PlaneQueries.from_codes(query_codes, blocks)
        step = max(1, self._lists.block_bytes // (16 * bit_planes.LANES * (bits + 1)))
        counts = []
        for first in range(0, len(query_codes), step):
            rows = slice(first, first + step)
            some_labels = None if query_labels is None else query_labels[rows]
            counts.append(queries.select(rows).count(parts, part_labels, some_labels))
        total, relevant = zip(*counts, strict=True)
        return torch.cat(total), torch.cat(relevant)

    def _search(self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int) -> tuple[Tensor, Tensor]:
        _check_device(query_codes)
        sizes = {"queries": len(query_codes), "items": len(database_codes)}
        if self.form == "planes" or (
            self.form is None
            and self.lists != "fused"
            and choose_planes_lists(hamming=isinstance(distance, Hamming), **sizes)
        ):
            return self._search_planes(query_codes, database_codes, distance, k)
        pairs = Pairs.from_codes(query_codes, database_codes, distance)
        if pairs.bins > LISTED_BINS:
            return self._lists._search(query_codes, database_codes, distance, k)
        lists = self.lists or choose_lists(bins=pairs.bins, shared_bins=SHARED_BINS, **sizes)
        if lists == "fused":
            if pairs.bins > SHARED_BINS:
                raise InvalidInputError(
                    f"lists='fused' cannot search among distances up to {distance.maximum}; leave it out."
                )
            nearest = pairs.find_nearest(k)
        else:
            nearest = find_nearest(pairs, k, self._lists.block_bytes, sampled=lists == "sample")
        return nearest // len(database_codes), nearest % len(database_codes)

    def _search_planes(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, k: int
    ) -> tuple[Tensor, Tensor]:
        if not isinstance(distance, Hamming) or self.lists == "fused":
            raise InvalidInputError("form='planes' searches by Hamming distance, and not in one launch; leave it out.")
        blocks = BlockedCodes.from_codes(database_codes, distance.bits, None, self._lists.block_bytes)
        queries = PlaneQueries.from_codes(query_codes, blocks)
        nearest = find_nearest(queries, k, self._lists.block_bytes, sampled=self.lists != "count")
        return nearest // blocks.places, nearest % blocks.places

    def _relevant_ranks(
        self, query_codes: Tensor, database_codes: Tensor, distance: Distance, relevance: Relevance
    ) -> tuple[Tensor, Tensor]:
        _check_device(query_codes)
        return self._lists._relevant_ranks(query_codes, database_codes, distance, relevance)


def _count_labels(relevance: Relevance, pairs: int, *, forced: bool) -> int | None:
    """Return the number of different labels of the items for `choose_form`; None also where planes are not chosen."""
    if isinstance(relevance, Neighbours):
        return 0
    if not isinstance(relevance, SharedLabel) or (pairs < MIN_PLANES_PAIRS and not forced):
        return None
    return len(torch.unique(relevance.database))


def _check_device(query_codes: Tensor) -> None:
    """Raise an error for codes that Triton cannot access: not on a CUDA device, unless the kernels are interpreted.

    Raises:
        InvalidInputError: the codes are on another device, or Triton is too old.
    """
    if not kernels.COUNTS_UNDER_MASK:
        raise InvalidInputError(
            f"Triton {triton.__version__} is too old for TritonEngine; install a newer PyTorch, or use ranking=torch."
        )
    interpreted = not isinstance(kernels.histogram_kernel, triton.JITFunction)
    if query_codes.device.type != "cuda" and not interpreted:
        raise InvalidInputError(
            f"TritonEngine ranks codes on a CUDA device, but these are on {query_codes.device}; "
            "move them, or use ranking=auto."
        )
