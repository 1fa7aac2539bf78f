"""The hasher: an encoder, a projection and a quantiser that are fitted, applied and saved as one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, cast, final

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity
from deephash.codes import as_codes, code_bytes, pack
from deephash.conversion import convert_numpy_numbers
from deephash.data.file_rows import FileRows, read_features
from deephash.encoders.base import Encoder
from deephash.encoders.identity import Identity
from deephash.encoders.image_encoder import ImageEncoder
from deephash.functional.evaluation_mode import evaluation_mode
from deephash.hashers import storage
from deephash.hashers.base_hasher import BaseHasher
from deephash.hashers.hasher_checks import (
    check_encoder_fits,
    check_parts,
    check_projections,
    check_quantizer_fits,
    warn_of_one_code,
)
from deephash.hashers.row_blocks import check_file_rows, iterate_blocks, sample_rows
from deephash.projections.base import Projection
from deephash.projections.online.base import OnlineProjection, Update
from deephash.quantizers.base import Quantizer
from deephash.quantizers.sbq import SBQ
from deephash.ranking.distance import Distance
from deephash.validation import InvalidInputError, as_features, as_labels, as_rows, check_count

# 8192 rows of 512 float32 features are 16 MB: enough to keep a device busy, little beside the data.
BLOCK_ROWS = 8192


@final
class Hasher(BaseHasher):
    """Map from features to packed codes by an encoder, a projection and a quantiser.

    Shape:
        features (n, d) → relaxed bits (n, b) by `forward`, packed codes uint8 (n, ⌈b/8⌉) by `encode`.

    Args:
        projection: (n, e) → (n, k).
        quantizer: (n, k) → b bits; its `projection_dim` is the projection's `output_dim`. None uses SBQ, one bit per
            projection.
        encoder: features (n, d) → (n, e), the projection's input. None uses the features themselves, e = d.

    Raises:
        InvalidInputError: neighbouring parts differ in e or k.

    Examples:
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
        check_parts(projection, quantizer, encoder)
        quantizer = SBQ(projection.output_dim) if quantizer is None else quantizer
        encoder = Identity(projection.input_dim) if encoder is None else encoder
        check_encoder_fits(encoder, projection)
        check_quantizer_fits(projection, quantizer)
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
        """Distance by which codes are ranked."""
        return self.quantizer.distance

    @property
    def fits_on_shares(self) -> bool:
        """Whether processes can fit this hasher on shares of the rows, by sums over all processes."""
        return isinstance(self.encoder, Identity) and self.projection.fits_on_shares and self.quantizer.fits_on_shares

    def fit(
        self,
        features: Tensor | FileRows | ArrayLike,
        *,
        labels: Tensor | ArrayLike | None = None,
        affinity: Affinity | TrainingAffinity | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Fit the encoder, then the projection on encoded features, then the quantiser on projections.

        Args:
            features: numbers (n, d), the training items, as a tensor, an array, a memory map, a data frame or nested
                lists; not changed. Integers and booleans become floating; memory is shared where possible. Of images
                in files (`FileRows`), encoders of images are fitted on a sample of 512 MB, and each is decoded once.
            labels: class indices (n,) or indicators (n, c), if a part uses them.
            affinity: which training items are neighbours, if a part uses it: an affinity fitted on these items, or the
                result of its `supervise`.
            generator: CPU generator of every random draw; None uses one seeded with 0.

        Returns:
            self, fitted.

        Raises:
            InvalidInputError: a part cannot be fitted on these items.
        """
        generator = generator or torch.Generator().manual_seed(0)
        if isinstance(features, FileRows) and isinstance(self.encoder, ImageEncoder):
            check_file_rows(features, self.input_dim)
        else:
            features = as_features(read_features(features), self.input_dim, 1, "training features")
        labels = None if labels is None else as_labels(labels, len(features), "training labels")
        pairs = affinity.supervise(cast(Tensor, features), labels) if isinstance(affinity, Affinity) else affinity
        self.fit_encoder(sample_rows(features), generator)
        encoded = self.apply_encoder(features)
        self.projection.fit(encoded, labels=labels, affinity=pairs, generator=generator)
        blocks = self._project_blocks(encoded, BLOCK_ROWS, "Projecting", is_encoded=True)
        projections = torch.cat([block.to(encoded.device) for block in blocks])
        self.quantizer.fit(projections, labels=labels, affinity=pairs, generator=generator)
        warn_of_one_code(self.quantizer, projections, type(self.projection).__name__, BLOCK_ROWS)
        return self

    def partial_fit(
        self,
        features: Tensor | ArrayLike,
        *,
        labels: Tensor | ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Update:
        """Continue learning from a batch of a stream; only the first batch fits the encoder and the thresholds.

        Args:
            features: numbers (n, d), as for `fit`, in order of arrival; not changed.
            labels: class indices (n,) or indicators (n, c), if the projection requires them.
            generator: CPU generator of every random draw; None uses one seeded with 0. Only the first batch uses it:
                later draws continue from its state.

        Returns:
            The projections that moved: their bits in earlier codes are stale.

        Raises:
            InvalidInputError: the projection cannot learn from a stream, or cannot use this batch.
        """
        if not isinstance(self.projection, OnlineProjection):
            raise InvalidInputError(
                f"{type(self.projection).__name__} learns from all items at once; fit it again, or choose a method "
                "that learns from a stream, such as StreamingITQCCA."
            )
        starts = not bool(self.projection.is_fitted)
        generator = generator or torch.Generator().manual_seed(0)
        features = as_features(features, self.input_dim, int(starts), "stream features")
        labels = None if labels is None else as_labels(labels, len(features), "stream labels")
        if starts:
            self.fit_encoder(features, generator)
        update = self.projection.partial_fit(self.apply_encoder(features), labels, generator)
        if starts:
            self.quantizer.fit(self.project(features), labels=labels, generator=generator)
        return update

    def forward(self, features: Tensor) -> Tensor:
        """Compute relaxed bits in [-1, 1], (n, d) → (n, b), differentiable in the features and every parameter."""
        relaxed: Tensor = self.quantizer(self.projection(self.encoder(features)))
        return relaxed

    @torch.no_grad()
    def fit_encoder(self, features: Tensor, generator: torch.Generator) -> None:
        """Fit only the encoder, the first step of `fit`."""
        self.encoder.fit(features.to(self.projection.is_fitted.device), generator)
        check_encoder_fits(self.encoder, self.projection)

    @torch.no_grad()
    def apply_encoder(self, features: Tensor | FileRows) -> Tensor:
        """Encode floating features (n, d) to (n, e), in blocks on the device of the weights.

        Returns:
            (n, e), on the features' device; the features themselves without an encoder.
        """
        if isinstance(self.encoder, Identity):
            return cast(Tensor, read_features(features))
        device = self.projection.is_fitted.device
        with evaluation_mode(self):
            blocks = iterate_blocks(features, BLOCK_ROWS, device)
            return torch.cat([self.encoder(block).to(features.device) for block in blocks])

    @convert_numpy_numbers
    @torch.no_grad()
    def project(self, features: Tensor | FileRows | ArrayLike, block_size: int = BLOCK_ROWS) -> Tensor:
        """Compute continuous projections without gradients, in blocks on the device of the weights.

        Args:
            features: numbers (n, d), as for `fit`, on any device, n from 0.
            block_size: number of rows that are moved to the device of the weights and computed at a time.

        Returns:
            (n, k), on the features' device.

        Raises:
            InvalidInputError: the features or the block size are invalid.
            NotFittedError: the projection is not fitted.
        """
        rows, device = self._check_rows(features, block_size)
        blocks = [block.to(device) for block in self._project_blocks(rows, block_size, "Projecting")]
        return torch.cat(blocks)

    @convert_numpy_numbers
    @torch.no_grad()
    def encode(self, features: Tensor | FileRows | ArrayLike, block_size: int = BLOCK_ROWS) -> Tensor:
        """Compute packed codes, in blocks on the device of the weights.

        The result does not depend on `block_size`, except for margins so near 0 (a millionth of the projections' size)
        that the order of sums in a matrix product decides their sign. Autocast is disabled, so that training and search
        give the same codes.

        Args:
            features: numbers (n, d), as for `fit`, on any device, n from 0. A memory map is read block by block.
            block_size: number of rows that are moved to the device of the weights and computed at a time.

        Returns:
            uint8 (n, ⌈b/8⌉), on the features' device.

        Raises:
            InvalidInputError: the features or the block size are invalid.
            NotFittedError: a part is not fitted.
        """
        self.quantizer.check_fitted()
        rows, device = self._check_rows(features, block_size)
        codes = torch.empty(len(rows), code_bytes(self.bits), dtype=torch.uint8, device=device)
        start = 0
        for projections in self._project_blocks(rows, block_size, "Encoding"):
            codes[start : start + len(projections)] = pack(self.quantizer.quantize(projections))
            start += len(projections)
        return codes

    def search(
        self, features: Tensor | ArrayLike, database_codes: Tensor | ArrayLike, k: int = 10
    ) -> tuple[Tensor, Tensor]:
        """Find the k nearest codes of each query by an exact scan.

        For databases that are searched repeatedly, build an index with `deephash.index`.

        Args:
            features: the queries, floating (q, d).
            database_codes: packed codes uint8 (N, ⌈b/8⌉), as `encode` returns.
            k: number of neighbours, 1 to N.

        Returns:
            Distances and ids, int64 (q, k), nearest first; ties are in order of their ids, which are rows of the
            database.

        Raises:
            InvalidInputError: features or codes have the wrong size, or k exceeds N.
        """
        # Imported here, since importing ranking engines compiles their kernels.
        from deephash.ranking.auto_engine import AutoEngine

        codes = as_codes(database_codes, "database codes")
        return AutoEngine().search(self.encode(features).to(codes.device), codes, self.distance, k)

    def check_fitted(self) -> None:
        """Raise `NotFittedError` unless the projection and the quantiser are fitted."""
        self.projection.check_fitted()
        self.quantizer.check_fitted()

    @classmethod
    def load(cls, folder: str | Path) -> "Hasher":
        """Read a hasher that `save` wrote, bit for bit, onto the CPU.

        Before loading, import the module of a part that is defined outside deephash: a saved file makes Python import
        only deephash and its installed plugins.

        Raises:
            InvalidInputError: a file is missing or damaged, the format version or a class is unknown, or the contents
                do not match their identity.
        """
        description, weights = storage.read(Path(folder))
        if "quantizers" in description:
            raise InvalidInputError(
                f"{folder} contains a hasher of two views; load it with deephash.load, and call its view() for one."
            )
        return storage.restore(cls.build, description, weights, Path(folder))

    @classmethod
    def build(cls, description: dict[str, Any]) -> "Hasher":
        """Build a hasher from a description that `describe` returned; its weights are loaded later.

        Raises:
            InvalidInputError: a class is unknown or does not accept the arguments.
        """
        projection = storage.rebuild(description["projection"], Projection)
        quantizer = storage.rebuild(description["quantizer"], Quantizer)
        # Hashers saved before there were encoders have none.
        encoder = storage.rebuild(description["encoder"], Encoder) if "encoder" in description else None
        return cls(cast("Projection", projection), cast("Quantizer", quantizer), cast("Encoder | None", encoder))

    def describe(self) -> dict[str, Any]:
        """Return the classes and arguments of the parts, as JSON values."""
        return {
            "encoder": storage.describe(self.encoder),
            "projection": storage.describe(self.projection),
            "quantizer": storage.describe(self.quantizer),
            "sizes": {"input_dim": self.input_dim, "projections": self.projection.output_dim, "bits": self.bits},
        }

    def _check_rows(
        self, features: Tensor | FileRows | ArrayLike, block_size: int
    ) -> tuple[Tensor | FileRows | NDArray[Any], torch.device]:
        """Check features; return them unconverted, and their device, on which the results are returned."""
        self.projection.check_fitted()
        check_count(block_size, "block_size")
        if isinstance(features, FileRows):
            check_file_rows(features, self.input_dim)
            return features, features.device
        rows = as_rows(features, self.input_dim)
        return rows, rows.device if isinstance(rows, Tensor) else torch.device("cpu")

    @torch.no_grad()
    def _project_blocks(
        self, rows: Tensor | FileRows | NDArray[Any], block_size: int, description: str, is_encoded: bool = False
    ) -> Iterator[Tensor]:
        """Yield the projections of each block of rows, at least one, on the weights' device."""
        device = self.projection.is_fitted.device
        start = 0
        with evaluation_mode(self):
            for block in iterate_blocks(rows, block_size, device, description):
                with torch.autocast(device.type, enabled=False):
                    projections: Tensor = self.projection(block if is_encoded else self.encoder(block))
                check_projections(projections, start, type(self.projection).__name__)
                start += len(block)
                yield projections
