"""The hasher: encoder, projection and quantiser joined, fitted, applied and stored as one."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast, final

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity
from deephash.codes import as_codes, code_bytes, pack
from deephash.conversion import plain_numbers
from deephash.encoders.base import Encoder
from deephash.encoders.identity import Identity
from deephash.hashers import storage
from deephash.io.progress import track
from deephash.projections.base import Projection
from deephash.projections.online.base import OnlineProjection, Update
from deephash.quantizers.base import Quantizer
from deephash.quantizers.sbq import SBQ
from deephash.ranking.distance import Distance
from deephash.validation import InvalidInputError, as_features, as_labels, as_rows, check_count, floating

# 8192 rows of 512 float32 features are 16 MB: enough to keep a device busy, little beside the data.
BLOCK_ROWS = 8192
# The name of the view where there is but one.
ONE_VIEW = ""


@final
class Hasher(nn.Module):
    """Features to packed codes, by an encoder, a projection and a quantiser.

    Shape:
        features (n, d) → relaxed bits (n, b) by `forward`, packed codes uint8 (n, ⌈b/8⌉) by `encode`.

    Args:
        projection: (n, e) → (n, k).
        quantizer: (n, k) → b bits; its `projection_dim` is the projection's `output_dim`. None: SBQ, one bit a
            projection.
        encoder: features (n, d) → (n, e), what the projection takes; None for the features as they are, e = d.

    Raises:
        InvalidInputError: neighbouring parts differ in e or k.

    Example:
        >>> from deephash import ITQ
        >>> features = torch.randn(100, 16, generator=torch.Generator().manual_seed(0))
        >>> hasher = Hasher(ITQ(16, 12)).fit(features)
        >>> codes = hasher.encode(features)
        >>> codes.shape
        torch.Size([100, 2])
        >>> distances, ids = hasher.search(features[:3], codes, k=1)
        >>> ids.flatten().tolist()
        [0, 1, 2]
    """

    def __init__(
        self, projection: Projection, quantizer: Quantizer | None = None, encoder: Encoder | None = None
    ) -> None:
        super().__init__()
        quantizer = SBQ(projection.output_dim) if quantizer is None else quantizer
        encoder = Identity(projection.input_dim) if encoder is None else encoder
        check_encoder_fits(encoder, projection)
        if projection.output_dim != quantizer.projection_dim:
            raise InvalidInputError(
                f"{type(projection).__name__} gives {projection.output_dim} projections, but "
                f"{type(quantizer).__name__} of {quantizer.bits} bits takes {quantizer.projection_dim}; build the "
                "projection with output_dim=quantizer.projection_dim."
            )
        self.encoder = encoder
        self.projection = projection
        self.quantizer = quantizer

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.quantizer.bits

    @property
    def input_dim(self) -> int:
        """Feature dimension d."""
        return self.encoder.input_dim

    @property
    def distance(self) -> Distance:
        """The distance that codes are ranked by."""
        return self.quantizer.distance

    @property
    def parts(self) -> "dict[str, Hasher]":
        """The hasher of each view by its name: itself, of the one there is."""
        return {ONE_VIEW: self}

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Which view asks and which is searched."""
        return ((ONE_VIEW, ONE_VIEW),)

    @property
    def fits_on_shares(self) -> bool:
        """Whether processes can fit this on shares of the rows, by sums over all of them."""
        return isinstance(self.encoder, Identity) and self.projection.fits_on_shares and self.quantizer.fits_on_shares

    @property
    def identity(self) -> str:
        """SHA-256, in hex, of what this is built of and its weights: the same exactly where two hashers are."""
        return storage.identity(self.description(), self.state_dict())

    def fit(
        self,
        features: Tensor | ArrayLike,
        *,
        labels: Tensor | ArrayLike | None = None,
        affinity: Affinity | TrainingAffinity | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Set the encoder's start, fit the projection on what it gives, then the quantiser on the projections.

        Args:
            features: numbers (n, d), the training items; not changed. A tensor, an array, a memory map, a frame or
                nested lists; whole numbers and truth values become floating, and what can share its memory does.
            labels: whole numbers (n,) or truth values (n, c), where a part uses them.
            affinity: which training items are neighbours, where a part uses it: a definition fitted on these items,
                or what its `supervise` gives.
            generator: CPU generator of every random draw; None draws from one seeded with 0.

        Returns:
            self, fitted.

        Raises:
            InvalidInputError: whatever either part refuses.
        """
        generator = generator or torch.Generator().manual_seed(0)
        features = as_features(features, self.input_dim, 1, "training features")
        labels = None if labels is None else as_labels(labels, len(features), "training labels")
        pairs = affinity.supervise(features, labels) if isinstance(affinity, Affinity) else affinity
        with torch.no_grad():
            self.encoder.fit(features.to(self.projection.is_fitted.device), generator)
        check_encoder_fits(self.encoder, self.projection)
        self.projection.fit(self.encoded(features), labels=labels, affinity=pairs, generator=generator)
        projections = self.project(features)
        self.quantizer.fit(projections, labels=labels, affinity=pairs, generator=generator)
        warn_of_one_code(self.quantizer, projections, type(self.projection).__name__)
        return self

    def partial_fit(
        self,
        features: Tensor | ArrayLike,
        *,
        labels: Tensor | ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Update:
        """Go on learning from a batch of a stream; the encoder's start and the thresholds are those of the first batch.

        Args:
            features: numbers (n, d), as `fit` takes them, in the order of their arrival; not changed.
            labels: whole numbers (n,) or truth values (n, c), where the projection requires them.
            generator: CPU generator of all random draws, taken by the first batch alone; None draws from one seeded
                with 0.

        Returns:
            Which projections moved: codes made before are stale in their bits.

        Raises:
            InvalidInputError: a projection that learns from all items at once alone, or whatever it refuses.
        """
        if not isinstance(self.projection, OnlineProjection):
            raise InvalidInputError(
                f"{type(self.projection).__name__} learns from all items at once; fit it again, or choose a method "
                "that learns from a stream, as StreamingITQCCA."
            )
        starts = not bool(self.projection.is_fitted)
        generator = generator or torch.Generator().manual_seed(0)
        features = as_features(features, self.input_dim, int(starts), "stream features")
        labels = None if labels is None else as_labels(labels, len(features), "stream labels")
        if starts:
            with torch.no_grad():
                self.encoder.fit(features.to(self.projection.is_fitted.device), generator)
            check_encoder_fits(self.encoder, self.projection)
        update = self.projection.partial_fit(self.encoded(features), labels, generator)
        if starts:
            self.quantizer.fit(self.project(features), labels=labels, generator=generator)
        return update

    def forward(self, features: Tensor) -> Tensor:
        """Relaxed bits in [-1, 1], (n, d) → (n, b), differentiable in the features and every parameter."""
        relaxed: Tensor = self.quantizer(self.projection(self.encoder(features)))
        return relaxed

    @torch.no_grad()
    def encoded(self, features: Tensor, block_size: int = BLOCK_ROWS) -> Tensor:
        """What the encoder gives, without gradients, computed in blocks on the device of the weights.

        Args:
            features: floating (n, d), on any device, n from 0.
            block_size: rows that are moved to the weights and computed at a time.

        Returns:
            (n, e), on the features' device; the features themselves where there is no encoder.
        """
        if isinstance(self.encoder, Identity):
            return features
        device = self.projection.is_fitted.device
        with evaluating(self):
            blocks = [self.encoder(block.to(device)).to(features.device) for block in torch.split(features, block_size)]
        return torch.cat(blocks)

    @plain_numbers
    @torch.no_grad()
    def project(self, features: Tensor | ArrayLike, block_size: int = BLOCK_ROWS) -> Tensor:
        """Continuous projections without gradients, computed in blocks on the device of the weights.

        Args:
            features: numbers (n, d), as `fit` takes them, on any device, n from 0.
            block_size: rows that are moved to the weights and computed at a time.

        Returns:
            (n, k), on the features' device.

        Raises:
            InvalidInputError: bad features or block size; `NotFittedError` where the projection is not fitted.
        """
        rows, device = self._rows(features, block_size)
        blocks = [block.to(device) for block in self._projections(rows, block_size, "Projecting")]
        return torch.cat(blocks)

    @plain_numbers
    @torch.no_grad()
    def encode(self, features: Tensor | ArrayLike, block_size: int = BLOCK_ROWS) -> Tensor:
        """Packed codes, computed in blocks on the device of the weights.

        The result does not depend on `block_size`, save for margins so near 0 (a millionth of the projections' size)
        that the order in which a matrix product is summed decides their sign. Autocast is ignored, so that training
        and search give the same codes.

        Args:
            features: numbers (n, d), as `fit` takes them, on any device, n from 0. A memory map is read block by block.
            block_size: rows that are moved to the weights and computed at a time.

        Returns:
            uint8 (n, ⌈b/8⌉), on the features' device.

        Raises:
            InvalidInputError: bad features or block size; `NotFittedError` where a part is not fitted.
        """
        self.quantizer.check_fitted()
        rows, device = self._rows(features, block_size)
        codes = torch.empty(len(rows), code_bytes(self.bits), dtype=torch.uint8, device=device)
        start = 0
        for projections in self._projections(rows, block_size, "Encoding"):
            codes[start : start + len(projections)] = pack(self.quantizer.quantize(projections))
            start += len(projections)
        return codes

    def search(
        self, features: Tensor | ArrayLike, database_codes: Tensor | ArrayLike, k: int = 10
    ) -> tuple[Tensor, Tensor]:
        """The k nearest codes of each query, found exactly by scanning all of them.

        For databases that are searched again and again, `deephash.index` builds an index.

        Args:
            features: the queries, floating (q, d).
            database_codes: packed codes uint8 (N, ⌈b/8⌉), as `encode` gives.
            k: number of neighbours, 1 to N.

        Returns:
            Distances and ids, int64 (q, k), nearest first; ids are rows of the database, the lower first among equals.

        Raises:
            InvalidInputError: features or codes of another size, or a k that the database does not have.
        """
        # Ranking is imported where it is used: its kernels are compiled when they are.
        from deephash.ranking.auto_engine import AutoEngine

        codes = as_codes(database_codes, "database codes")
        return AutoEngine().search(self.encode(features).to(codes.device), codes, self.distance, k)

    def codes_of(self, features: Tensor | ArrayLike) -> dict[str, tuple[Tensor, Tensor]]:
        """Packed codes of the one view, and the rows of the items that they are of: all."""
        codes = self.encode(features)
        return {ONE_VIEW: (codes, torch.arange(len(codes), device=codes.device))}

    def calibrate(self, features: Tensor) -> None:
        """Set the unit of the quantiser's margins from training items."""
        self.quantizer.calibrate(self.project(features).to(self.quantizer.is_fitted.device))

    def relaxed(self, copies: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Relaxed codes in unary and projections of each copy of the same items, differentiable.

        All copies go through in one pass, so that a batch normalisation sees the same statistics for each.
        """
        projections = self.projection(self.encoder(torch.cat(list(copies))))
        codes = self.quantizer.unary(projections).float()
        return list(zip(codes.chunk(len(copies)), projections.float().chunk(len(copies)), strict=True))

    def coded_rows(self, features: Tensor) -> tuple[Tensor, None]:
        """Of each code that `relaxed` gives the row of its item; views are not told apart where there is but one."""
        return torch.arange(len(features), device=features.device), None

    def save(self, folder: str | Path) -> None:
        """Write `hasher.json` and `weights.safetensors` into a folder, made where missing, each whole or not at all.

        Raises:
            InvalidInputError: a part is not fitted, or holds an argument that JSON cannot.
        """
        self.projection.check_fitted()
        self.quantizer.check_fitted()
        storage.write(Path(folder), self.description(), self.state_dict())

    @classmethod
    def load(cls, folder: str | Path) -> "Hasher":
        """Read what `save` wrote, bit for bit, onto the CPU.

        A part of a class that is not deephash's own needs its module imported first: a stored file makes Python import
        nothing else.

        Raises:
            InvalidInputError: missing or damaged files, another format version, an unknown class, or contents that do
                not match their identity.
        """
        description, weights = storage.read(Path(folder))
        if "quantizers" in description:
            raise InvalidInputError(
                f"{folder} holds a hasher of two views; load it with deephash.load, and take one view with its view()."
            )
        return storage.restored(cls.build, description, weights, Path(folder))

    @classmethod
    def build(cls, description: dict[str, Any]) -> "Hasher":
        """A hasher with the parts and sizes of the one described, its weights still to be loaded.

        Args:
            description: as `description` gives.

        Raises:
            InvalidInputError: a class that is unknown, or that does not take the arguments.
        """
        projection = storage.rebuild(description["projection"], Projection)
        quantizer = storage.rebuild(description["quantizer"], Quantizer)
        # Hashers stored before there were encoders have none.
        encoder = storage.rebuild(description["encoder"], Encoder) if "encoder" in description else None
        return cls(cast("Projection", projection), cast("Quantizer", quantizer), cast("Encoder | None", encoder))

    def description(self) -> dict[str, Any]:
        """The classes and arguments that this is built of, in values that JSON holds."""
        return {
            "encoder": storage.describe(self.encoder),
            "projection": storage.describe(self.projection),
            "quantizer": storage.describe(self.quantizer),
            "sizes": {"input_dim": self.input_dim, "projections": self.projection.output_dim, "bits": self.bits},
        }

    def _rows(self, features: Tensor | ArrayLike, block_size: int) -> tuple[Tensor | NDArray[Any], torch.device]:
        """Checked features, not converted yet, and the device that results go to: theirs."""
        self.projection.check_fitted()
        check_count(block_size, "block_size")
        rows = as_rows(features, self.input_dim)
        return rows, rows.device if isinstance(rows, Tensor) else torch.device("cpu")

    def _projections(self, rows: Tensor | NDArray[Any], block_size: int, description: str) -> Iterator[Tensor]:
        """The projections of one block of rows after another, at least one, on the weights' device."""
        device = self.projection.is_fitted.device
        with evaluating(self):
            for start in track(range(0, max(len(rows), 1), block_size), description):
                block = floating(rows[start : start + block_size]).to(device)
                with torch.autocast(device.type, enabled=False):
                    projections: Tensor = self.projection(self.encoder(block))
                if not bool(torch.isfinite(projections.sum())):
                    check_projections(projections, start, type(self.projection).__name__)
                yield projections


def warn_of_one_code(quantizer: Quantizer, projections: Tensor, method: str) -> None:
    """Warn where all training items have one code, so that nothing can be found by it.

    Args:
        quantizer: fitted.
        projections: (n, k) of the training items.
        method: name of the projection's class.
    """
    first = quantizer.quantize(projections[:1].to(quantizer.is_fitted.device))
    for block in torch.split(projections, BLOCK_ROWS):
        if bool((quantizer.quantize(block.to(first.device)) != first).any()):
            return
    if len(projections) > 1:
        warnings.warn(
            f"{method} gives all {len(projections)} training items the same code, so every search would return items "
            "in the order of their ids; check that features vary and that there are items of several classes, or "
            "choose other settings.",
            stacklevel=3,
        )


def check_projections(projections: Tensor, start: int, method: str) -> None:
    """Raise an error for projections that are not finite, of features that are: their bits would say nothing.

    Args:
        projections: (m, k) of a block of rows.
        start: the block's first row.
        method: name of the projection's class.

    Raises:
        InvalidInputError: naming the first row whose projections are not finite.
    """
    bad = torch.nonzero(~torch.isfinite(projections).all(1)).flatten()
    if len(bad):
        raise InvalidInputError(
            f"{method} gives no finite projections of {len(bad)} rows, the first at row {start + int(bad[0])}, whose "
            "features are far larger than those of training; divide them, or fit on features of that size."
        )


def check_encoder_fits(encoder: Encoder, projection: Projection) -> None:
    """Raise an error for an encoder that gives another dimension than the projection takes.

    Raises:
        InvalidInputError: naming both.
    """
    if encoder.output_dim != projection.input_dim:
        raise InvalidInputError(
            f"{type(encoder).__name__} gives {encoder.output_dim} features, but {type(projection).__name__} takes "
            f"{projection.input_dim}; build the projection with input_dim=encoder.output_dim, and an encoder with "
            "no more anchors than there are training items."
        )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, in which dropout and random bits rest, and back into the mode it was in."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
