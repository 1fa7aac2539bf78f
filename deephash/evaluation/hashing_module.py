"""Scoring as a Lightning loop: encode queries and database, on one process or several, and score their codes."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lightning
import torch
from torch import Tensor

from deephash.codes import code_bytes
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.learnt_codes import LearntCodes
from deephash.evaluation.scoring import ScoreSettings
from deephash.evaluation.view_scores import (
    TEST_ROLES,
    VALIDATION_ROLES,
    CodedItems,
    Evaluation,
    score_views,
    select_learnt_codes,
)
from deephash.hashers.hasher_views import AnyHasher, encode_views, get_views
from deephash.ranking.base import RankingEngine


class HashingModule(lightning.LightningModule):
    """Lightning module that scores a hasher.

    `trainer.test` scores the test queries against the database, and `trainer.validate` the validation queries against
    the validation database. Each process encodes its share of both. All processes then share the codes of the database,
    and each ranks its own queries. The scores are in `evaluation`, and do not depend on the number of processes.

    Args:
        hasher: fitted hasher of one view or of two.
        truth: ground truth.
        ranking: engine that ranks the codes.
        settings: metrics to compute.
        learnt: codes that the fit learnt for the training items, to use as codes of the database; None uses those of
            the hash functions.
    """

    def __init__(
        self,
        hasher: AnyHasher,
        truth: FittedTruth,
        ranking: RankingEngine,
        settings: ScoreSettings,
        learnt: LearntCodes | None = None,
    ) -> None:
        super().__init__()
        self.hasher = hasher
        self.truth = truth
        self.ranking = ranking
        self.settings = settings
        self.learnt = learnt
        self.evaluation: Evaluation | None = None
        self._blocks: tuple[dict[str, list[CodedItems]], dict[str, list[CodedItems]]] = ({}, {})
        self._started = 0.0

    def on_test_epoch_start(self) -> None:
        """Discard the codes of an earlier loop."""
        self._blocks = ({}, {})
        self._started = time.perf_counter()

    def on_validation_epoch_start(self) -> None:
        """Discard the codes of an earlier loop."""
        self.on_test_epoch_start()

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one block: of the database from loader 0, of the queries from loader 1."""
        self._encode_block(self.hasher, batch, dataloader_idx)

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one block in the same way as `test_step`."""
        self._encode_block(self.hasher, batch, dataloader_idx)

    def _encode_block(self, hasher: AnyHasher, batch: dict[str, Any], loader: int) -> None:
        for view, (codes, rows) in encode_views(hasher, batch["features"]).items():
            self._blocks[loader].setdefault(view, []).append(CodedItems(codes, batch["positions"][rows]))

    def on_test_epoch_end(self) -> None:
        """Score the test queries against the database."""
        self._score(TEST_ROLES)

    def on_validation_epoch_end(self) -> None:
        """Score the validation queries against the validation database."""
        self._score(VALIDATION_ROLES)

    def _score(self, roles: tuple[str, str]) -> None:
        gather = self._gather_rows if self.trainer.world_size > 1 else None
        database, queries = (self._join_blocks(blocks) for blocks in self._blocks)
        if gather is not None:
            database = {
                view: CodedItems(gather(items.codes), gather(items.positions.to(items.codes.device)[:, None])[:, 0])
                for view, items in database.items()
            }
        if self.learnt is not None:
            ids = torch.from_numpy(self.truth.data.ids(roles[1]))
            database = {view: select_learnt_codes(self.learnt, items, ids) for view, items in database.items()}
        encoded = time.perf_counter() - self._started
        found = score_views(self.hasher, queries, database, self.truth, roles, self.ranking, self.settings, gather)
        self.evaluation = replace(found, seconds={"encode": encoded, **found.seconds})

    def _join_blocks(self, blocks: Mapping[str, list[CodedItems]]) -> dict[str, CodedItems]:
        """Concatenate the blocks of each view; a process without blocks gets zero rows."""
        size = code_bytes(self.hasher.distance.code_bits)
        empty = CodedItems(
            torch.empty(0, size, dtype=torch.uint8, device=self.device),
            torch.empty(0, dtype=torch.int64, device=self.device),
        )
        joined = {}
        for view in get_views(self.hasher):
            parts = blocks.get(view) or [empty]
            codes, positions = [part.codes for part in parts], [part.positions for part in parts]
            joined[view] = CodedItems(torch.cat(codes), torch.cat(positions))
        return joined

    def _gather_rows(self, rows: Tensor) -> Tensor:
        """Concatenate the rows of all processes in order; padding evens out shares of different lengths."""
        processes = self.trainer.world_size
        lengths = [int(length) for length in all_gather(torch.tensor([len(rows)], device=rows.device), processes)]
        padded = rows.new_zeros((max(lengths), rows.shape[1]))
        padded[: len(rows)] = rows
        gathered = all_gather(padded, processes)
        return torch.cat([share[:length] for share, length in zip(gathered, lengths, strict=True)])


def all_gather(tensor: Tensor, processes: int) -> list[Tensor]:
    """Gather a tensor, of the same shape in all processes, in the order of their ranks."""
    gathered = [torch.empty_like(tensor) for _ in range(processes)]
    torch.distributed.all_gather(gathered, tensor)
    return gathered
