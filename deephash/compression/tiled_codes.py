"""Codes in the layout of the scan by float queries."""

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.compression.scan_kernels import scan_tiles
from deephash.ranking.numba_engine import run_in_threads
from deephash.ranking.numba_vectors import LANES

# Bytes of a share of the database that are worth a thread of their own.
SHARE_BYTES = 1 << 23
# Memory of the results of a block of queries, before those of the shares are merged.
RESULT_BYTES = 1 << 26


def lay_out(columns: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copy bytes of items (n, B) into tiles (⌈n/64⌉, B, 64): byte w of item 64 t + i is at [t, w, i]; 0 pads."""
    tiles = np.zeros((-(-len(columns) // LANES), columns.shape[1], LANES), np.uint8)
    whole = len(columns) // LANES
    tiles[:whole] = columns[: whole * LANES].reshape(whole, LANES, columns.shape[1]).transpose(0, 2, 1)
    rest = columns[whole * LANES :]
    tiles[whole:, :, : len(rest)] = rest.T
    return tiles


def list_terms(weights: Tensor, size: int) -> Tensor:
    """Return what each value of the lower and of the upper half of each byte adds to a product.

    Args:
        weights: float32 (q, b), what each bit adds if it is 1, and subtracts if it is 0.
        size: bytes B of a code.

    Returns:
        float32 (q, B, 32).
    """
    signs = 2.0 * (torch.arange(16)[None, :] >> torch.arange(4)[:, None] & 1) - 1
    padded = torch.nn.functional.pad(weights, (0, 8 * size - weights.shape[1]))
    return (padded.view(-1, 2 * size, 4) @ signs).view(-1, size, 32)


@final
class TiledCodes:
    """A database of codes, 64 items to a tile, that float queries scan in vector instructions (AVX2).

    Args:
        codes: packed codes uint8 (N, B), N at least 1.
        steps: uint8 (N,), the byte s of each item, whose length is shortest + s step; None if all are `shortest`.
        shortest: length of an item with s = 0, above 0.
        step: difference of two lengths, at least 0.

    References:
        André, Kermarrec & Le Scouarnec, "Cache locality is not enough: high-performance nearest neighbor search with
        product quantization fast scan", VLDB 2015, for small tables in registers and sums of whole numbers that sort
        items out. Here the limit on the score is linear in the byte of the length, so it is one more byte of the item.
    """

    def __init__(self, codes: Tensor, steps: Tensor | None = None, shortest: float = 1.0, step: float = 0.0) -> None:
        self.size, self.code_bytes = codes.shape
        columns = codes if steps is None else torch.cat([codes, steps[:, None]], 1)
        self.tiles = lay_out(columns.numpy())
        self.shortest, self.step = np.float32(shortest), np.float32(step)

    def read_codes(self) -> Tensor:
        """Return a copy of the codes as they were given, (N, B)."""
        columns = self.tiles.transpose(0, 2, 1).reshape(-1, self.tiles.shape[1])
        return torch.from_numpy(np.ascontiguousarray(columns[: self.size, : self.code_bytes]))

    def search(self, weights: Tensor, offsets: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Find the k items with the largest (offset + Σ ±weight) / length; of equal ones, those of smaller ids.

        Args:
            weights: float32 (q, b), finite.
            offsets: float32 (q,), finite.
            k: number of items, 1 to N.

        Returns:
            Scores float32 and ids int64, (q, k), the largest first.
        """
        threads = torch.get_num_threads()
        shares = max(1, min(threads // max(len(weights), 1), self.tiles.nbytes // SHARE_BYTES))
        found = []
        for rows in torch.split(torch.arange(len(weights)), max(1, RESULT_BYTES // (12 * shares * k))):
            terms, own = list_terms(weights[rows], self.code_bytes).numpy(), offsets[rows].numpy()
            scores = np.empty((len(rows) * shares, k), np.float32)
            ids = np.empty(scores.shape, np.int64)
            arguments = (terms, own, self.shortest, self.step, self.tiles, self.size, shares, scores, ids)
            run_in_threads(scan_tiles, arguments, len(scores), threads, least=1)
            own_scores = torch.from_numpy(scores).view(len(rows), shares * k)
            own_ids = torch.from_numpy(ids).view(len(rows), shares * k)
            found.append(merge_shares(own_scores, own_ids, k))
        scores_found, ids_found = zip(*found, strict=True)
        return torch.cat(scores_found), torch.cat(ids_found)


def merge_shares(scores: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of the scores (q, c) and their ids, in order; of equal ones, the smaller ids."""
    by_id = ids.argsort(dim=1)
    scores, ids = scores.gather(1, by_id), ids.gather(1, by_id)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores.gather(1, order), ids.gather(1, order)
