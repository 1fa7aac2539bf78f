"""Joint training of encoder, projection and quantiser by gradient, starting from the fitted hasher."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.nn
from torch import Tensor
from torch.nn.utils import clip_grad_value_

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity
from deephash.augmentations.base import Augmentation
from deephash.augmentations.view_augmentations import ViewAugmentations
from deephash.data.batches import EpochBatches, build_batch_loader, build_pair_loader
from deephash.data.file_rows import select_rows
from deephash.data.judged_pairs import JudgedPairs
from deephash.data.streamed_images import PixelRows
from deephash.data.views import Views
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.hashing_module import HashingModule
from deephash.evaluation.scoring import ScoreSettings
from deephash.hashers.hasher_views import AnyHasher, calibrate_margins, get_code_rows, get_views, relax_codes
from deephash.io.files import write_json
from deephash.losses.batch import TrainingBatch
from deephash.losses.nested import Nested
from deephash.losses.weighted_sum import WeightedSum
from deephash.quantizers.relaxations.base import Relaxation
from deephash.ranking.base import RankingEngine
from deephash.ranking.distance import Hamming
from deephash.training.constraints import keep_orthonormal, plain_hasher
from deephash.training.fit_module import training_affinity
from deephash.training.joint_settings import PARTS, JointSettings
from deephash.training.relative_rates import compute_weight_sizes, parameter_groups
from deephash.training.sharded_gradients import clip_norm, has_sharded
from deephash.validation import InvalidInputError

# Number of items over which the unit of margins, a mean absolute deviation of projections, is estimated, to about 1 %.
CALIBRATION_ROWS = 10_000
# The same of images in files, which are decoded for it: to about 2 %.
CALIBRATION_IMAGES = 2048

# What losses of queries and passages require.
PAIRS = "pairs"
# Fields of a batch that may contain NaN or infinity.
FLOATS = ("codes", "projections", "features")


class JointModule(HashingModule):
    """End-to-end training of a fitted hasher: a loss on relaxed (continuous) codes sends gradients into every part.

    The relaxation sharpens as training proceeds. Validation encodes without relaxation, and is scored like any run.
    Parameters that a projection declares orthonormal stay orthonormal.

    Several processes share each batch and exchange their codes. All of them compute the same loss over all pairs of the
    batch, so the gradients are those of one process.

    Args:
        hasher: fitted hasher, from which training starts.
        truth: ground truth.
        ranking: engine that ranks the codes.
        settings: settings of the validation scores.
        learning: settings of the training.
        loss: loss to minimise.
        supervision: definition of neighbours among training items; None for that of the truth.
        augmentation: augmentation of each batch; None leaves the items unchanged.
        seed: seed of batches, dropout and augmentation.
        failed_batch: file for a description of a batch whose loss is not finite.
    """

    def __init__(
        self,
        hasher: AnyHasher,
        truth: FittedTruth,
        ranking: RankingEngine,
        settings: ScoreSettings,
        *,
        learning: JointSettings,
        loss: WeightedSum,
        supervision: Affinity | None = None,
        augmentation: Augmentation | ViewAugmentations | None = None,
        seed: int = 0,
        failed_batch: Path | None = None,
    ) -> None:
        super().__init__(hasher, truth, ranking, settings)
        self.learning = learning
        self.loss = loss
        self.supervision = supervision
        self.augmentation = augmentation
        self.seed = seed
        self.failed_batch = failed_batch
        self.seconds = 0.0
        # In a list, so that it is not a submodule.
        self._validated: list[AnyHasher] = []
        self._pairs: TrainingAffinity | None = None
        self._judged: JudgedPairs | None = None
        self._sizes: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        self._clock = 0.0

    def prepare(self) -> None:
        """Prepare the fitted hasher for gradients, before the first step of a new or resumed training.

        Raises:
            InvalidInputError: a loss needs labels that the data do not have, or no part that learns has a weight.
        """
        part = self.truth.data.part("train").in_memory()
        moves = self.learning.moves
        self.check_losses(part.labels)
        if "neighbours" in self.loss.requires:
            truth = self.truth.definition
            self._pairs = training_affinity(truth, self.supervision, part.features, part.labels, part.ids)
        streams = isinstance(part.features, PixelRows)
        step = max(1, len(part) // (CALIBRATION_IMAGES if streams else CALIBRATION_ROWS))
        calibrate_margins(self.hasher, select_rows(part.features, torch.arange(0, len(part), step)))
        for name in PARTS:
            self.hasher.get_submodule(name).requires_grad_(name in moves)
        if not any(weight.requires_grad for weight in self.hasher.parameters()):
            raise InvalidInputError(
                f"train.moves={list(moves)} has no weight to learn in this hasher; name another part of "
                f"{', '.join(PARTS)}."
            )
        if self.learning.keep_orthogonal and "projection" in moves:
            keep_orthonormal(self.hasher.projection)
        self._sizes = compute_weight_sizes(self.hasher)

    def training_batches(self, rank: int, processes: int) -> Any:
        """Return the loader of one process's share of each batch."""
        size, order = self.learning.batch_size, self.learning.order
        if PAIRS in self.loss.requires:
            pairs = self.get_pairs()
            drawn = EpochBatches(len(pairs), size, self.seed, rank, processes)
            return build_pair_loader(self.truth.data.items.features, pairs, drawn)
        part = self.truth.data.part("train").in_memory()
        batches = EpochBatches(len(part), size, self.seed, rank, processes, order, part.labels)
        return build_batch_loader(part, batches)

    def configure_optimizers(self) -> Any:
        """Return the optimiser, with a group and a rate for each parameter, and the schedule by step."""
        parts = {name: self.hasher.get_submodule(name) for name in PARTS}
        optimizer = self.learning.optimizer(
            parameter_groups({**parts, "loss": self.loss}, self.learning.rates or {}, self._sizes)
        )
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("rate")
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.learning.schedule(min(1.0, step / steps))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Start the clock."""
        self._clock = time.perf_counter()

    def on_train_end(self) -> None:
        """Read the clock."""
        self._read_clock()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the training time so far, so that a resumed training reports the total."""
        self._read_clock()
        checkpoint["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the training time."""
        self.seconds = checkpoint["seconds"]

    def _read_clock(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now

    def on_train_epoch_start(self) -> None:
        """Seed torch's default generator, so that an epoch does not depend on earlier ones."""
        self._seed_epoch()
        self._sums, self._summed = {}, 0

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed again before the first batch.

        The iterator of the batches draws a number when it is made: after the start of each epoch but the first, and in
        a resumed training before it. Dropout would then differ from that of a training that was not interrupted.
        """
        if batch_idx == 0:
            self._seed_epoch()
            if self.current_epoch > 0:
                torch.empty((), dtype=torch.int64).random_()

    def _seed_epoch(self) -> None:
        torch.manual_seed(hash((self.seed, self.current_epoch, self.global_rank)) % 2**63)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            InvalidInputError: the loss is not finite; the message has its terms and the file with the batch.
        """
        self._set_progress(self.global_step / max(1, int(self.trainer.estimated_stepping_batches)))
        coded = self.encode_batch(batch)
        if not bool(coded.codes.isfinite().all()):
            self._reject_batch(coded, {}, batch_idx)
        with torch.autocast(self.device.type, enabled=False):
            total: Tensor
            total, terms = self.loss(coded)
        if not bool(total.isfinite()):
            self._reject_batch(coded, terms, batch_idx)
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=term.device)) + term.detach()
        self._summed += 1
        return total

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of all weights together, including sharded ones."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        if not gradient_clip_val or not has_sharded(weights):
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_algorithm == "value":
            clip_grad_value_(weights, gradient_clip_val, foreach=False)
        else:
            clip_norm(weights, gradient_clip_val)

    def on_train_epoch_end(self) -> None:
        """Log each loss's mean over the epoch."""
        self.log_dict({f"loss/{name}": value for name, value in self.average_terms().items()}, rank_zero_only=True)

    def average_terms(self) -> dict[str, float]:
        """Return each loss, without its weight, averaged over the batches of the current epoch."""
        return {name: float(total) / self._summed for name, total in self._sums.items()}

    def on_validation_epoch_start(self) -> None:
        """Copy the hasher to validate; if weights are averaged, it is not the one that continues training."""
        super().on_validation_epoch_start()
        self._validated = [plain_hasher(self.hasher).to(self.device)]

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one block with the copy. Sharded weights would need equal numbers of blocks on all processes."""
        self._encode_block(self.validated, batch, dataloader_idx)

    @property
    def validated(self) -> AnyHasher:
        """The hasher that the last validation scored."""
        (hasher,) = self._validated
        return hasher

    def encode_batch(self, batch: dict[str, Any]) -> TrainingBatch:
        """Compute relaxed codes of a batch, joined over all processes."""
        wants_second = "second_codes" in self.loss.requires
        features, positions = batch["features"], batch["positions"]
        copies = [features if self.augmentation is None else self.augmentation(features)]
        if "passage_features" in batch:
            passages = batch["passage_features"]
            copies.append(passages if self.augmentation is None else self.augmentation(passages))
        elif wants_second:
            assert self.augmentation is not None
            copies.append(self.augmentation.second(features))
        (codes, projections), *second = relax_codes(self.hasher, copies)
        # With two views, each item has a code in each view.
        rows, views = get_code_rows(self.hasher, features)
        labels = batch.get("labels")
        positions = self._join_processes(positions[rows])
        return TrainingBatch(
            codes=self._join_processes(codes),
            projections=self._join_processes(projections),
            features=self._join_processes(copies[0]),
            positions=positions,
            labels=None if labels is None else self._join_processes(labels[rows]),
            neighbours=self._find_neighbours(positions),
            second_codes=self._join_processes(second[0][0]) if wants_second else None,
            quantizer=self.hasher.quantizer,
            rows=None if views is None else self._join_processes(rows + len(features) * self.global_rank),
            views=None if views is None else self._join_processes(views),
            relevant=self._find_relevant(positions, batch.get("passages")),
        )

    def _find_relevant(self, queries: Tensor, passages: Tensor | None) -> Tensor | None:
        if passages is None:
            return None
        return self.get_pairs().contain(queries, self._join_processes(passages))

    def get_pairs(self) -> JudgedPairs:
        """Return the pairs of a query and a passage from which training learns.

        Raises:
            InvalidInputError: the data have none.
        """
        if self._judged is None:
            self._judged = self.truth.data.get_training_pairs()
        if self._judged is None or not len(self._judged):
            raise InvalidInputError(
                f"loss={'+'.join(self.loss.losses)} learns from pairs of a query and a passage, and the data have none "
                "for training; choose data with them, such as data=beir with qrels/train.tsv."
            )
        return self._judged

    def _find_neighbours(self, positions: Tensor) -> Tensor | None:
        if self._pairs is None:
            return None
        among = self._pairs.subset(positions.cpu())
        return among.among(torch.arange(len(positions))).to(positions.device)

    def _join_processes(self, tensor: Any) -> Any:
        """Concatenate the rows of a tensor or of `Views` over all processes.

        Each process computes the whole loss. The backward pass of the concatenation sums gradients over processes, and
        DDP then takes their mean, so the result is the gradient of one process.
        """
        if self._trainer is None or self.trainer.world_size == 1:
            return tensor
        if isinstance(tensor, Views):
            return Views(
                {name: self._join_processes(rows) for name, rows in tensor.features.items()},
                {name: self._join_processes(rows) for name, rows in tensor.present.items()},
            )
        if not tensor.requires_grad:
            shares = [torch.empty_like(tensor) for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather(shares, tensor.contiguous())
            return torch.cat(shares)
        return torch.cat(torch.distributed.nn.all_gather(tensor.contiguous()))  # type: ignore[no-untyped-call]

    def _set_progress(self, progress: float) -> None:
        for module in self.modules():
            if isinstance(module, Relaxation):
                module.set_progress(min(1.0, progress))
                module.set_step(self.global_step)

    def check_losses(self, labels: Tensor | None) -> None:
        """Raise an error for losses that need labels, views or bits that the items or the quantiser do not have."""
        views = len(get_views(self.hasher))
        quantizer = next(iter(get_views(self.hasher).values())).quantizer
        has_one_bit = isinstance(quantizer.distance, Hamming) and quantizer.projection_dim == quantizer.bits
        for name, loss in self.loss.losses.items():
            requires = loss.requires
            assert isinstance(requires, frozenset)
            if isinstance(loss, Nested) and not has_one_bit:
                raise InvalidInputError(
                    "loss=nested cuts codes of one bit per projection, which are not those of "
                    f"{type(quantizer).__name__}; choose quantizer=sbq."
                )
            if "two_views" in requires and views == 1:
                raise InvalidInputError(
                    f"loss={name} compares two views of an item; choose data with two, such as data=wiki."
                )
            if requires & {"labels", "single_labels"} and labels is None:
                raise InvalidInputError(f"loss={name} learns from labels, and the training items have none.")
            if "single_labels" in requires and labels is not None and labels.ndim > 1:
                raise InvalidInputError(
                    f"loss={name} takes one class per item, and these items have several labels, for which no form is "
                    "published; choose a loss of shared labels, such as loss=csq, loss=hashnet or loss=dpsh."
                )
            if PAIRS in requires:
                self.get_pairs()
                if any(PAIRS not in other.requires for other in self.loss.losses.values()):  # type: ignore[operator]
                    raise InvalidInputError(
                        f"loss={name} learns from pairs of a query and a passage, and another loss of "
                        f"{', '.join(self.loss.losses)} from the items of the training part; choose losses of one kind."
                    )
            elif "second_codes" in requires and self.augmentation is None:
                raise InvalidInputError(
                    f"loss={name} compares two views of an item, and there is no augmentation; choose one, such "
                    "as augmentation=noise."
                )

    def _reject_batch(self, batch: TrainingBatch, terms: Mapping[str, Tensor], batch_idx: int) -> None:
        values = {name: float(term.detach()) for name, term in terms.items()}
        finite = {name: bool(tensor.isfinite().all()) for name, tensor in vars(batch).items() if name in FLOATS}
        where = ""
        if self.failed_batch is not None and self.trainer.is_global_zero:
            record = {
                "epoch": self.current_epoch,
                "batch": batch_idx,
                "positions": batch.positions.tolist(),
                "terms": {name: repr(value) for name, value in values.items()},
                "finite": finite,
            }
            write_json(self.failed_batch, record)
            where = f" Its rows are in {self.failed_batch}."
        bad = [name for name, is_finite in finite.items() if not is_finite]
        found = [f"{name}={value:g}" for name, value in values.items()]
        found += [f"NaN or infinity in its {' and '.join(bad)}"] if bad else []
        raise InvalidInputError(
            f"the loss is not finite in epoch {self.current_epoch}, batch {batch_idx}: {', '.join(found)}; lower "
            f"train.optimizer.lr or set trainer.gradient_clip_val=1.{where}"
        )
