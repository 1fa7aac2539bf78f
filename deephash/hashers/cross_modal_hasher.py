"""Two hashers that share a code space: what an image and its text are coded by, so that each finds the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast, final

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity
from deephash.data.views import Views
from deephash.encoders.base import Encoder
from deephash.encoders.identity import Identity
from deephash.hashers import storage
from deephash.hashers.hasher import Hasher, warn_of_one_code
from deephash.projections.paired.base import PairedProjection
from deephash.quantizers.base import Quantizer
from deephash.ranking.distance import Distance
from deephash.validation import InvalidInputError, as_features, as_labels


@final
class CrossModalHasher(nn.Module):
    """Features of two views to packed codes of one space.

    `view(name)` is the hasher of one view, which codes new items of it with nothing of the other.

    Shape:
        `Views` of n items → packed codes uint8 (m, ⌈b/8⌉) by view, m of the n items having that view.

    Args:
        projection: the views' projections, fitted together.
        quantizers: a quantiser for each view, by its name, of the same class and bits.
        encoders: what comes before each view's projection; None for the features as they are.

    Raises:
        InvalidInputError: views that differ between the parts, or parts that do not fit each other.

    Example:
        >>> from deephash.projections.paired.cvh import CVH
        >>> from deephash.quantizers.sbq import SBQ
        >>> generator = torch.Generator().manual_seed(0)
        >>> image, text = torch.randn(50, 8, generator=generator), torch.randn(50, 6, generator=generator)
        >>> pairs = Views({"image": image, "text": text})
        >>> hasher = CrossModalHasher(CVH(pairs.dimensions, 4), {"image": SBQ(4), "text": SBQ(4)}).fit(pairs)
        >>> hasher.encode(pairs)["text"].shape, hasher.view("image").encode(pairs.of("image")).shape
        (torch.Size([50, 1]), torch.Size([50, 1]))
    """

    def __init__(
        self,
        projection: PairedProjection,
        quantizers: Mapping[str, Quantizer],
        encoders: Mapping[str, Encoder] | None = None,
    ) -> None:
        super().__init__()
        names = tuple(projection.views)
        if encoders is None:
            encoders = {name: Identity(projection.view(name).input_dim) for name in names}
        for what, parts in (("quantizers", quantizers), ("encoders", encoders)):
            if tuple(parts) != names:
                raise InvalidInputError(f"{what} are of views {list(parts)}; expected {list(names)}.")
        kinds = {(type(quantizer).__name__, quantizer.bits) for quantizer in quantizers.values()}
        if len(kinds) > 1:
            raise InvalidInputError(f"quantizers differ: {sorted(kinds)}; expected one class and one code length.")
        self.encoder = nn.ModuleDict(encoders)
        self.projection = projection
        self.quantizer = nn.ModuleDict(quantizers)

    def view(self, name: str) -> Hasher:
        """The hasher of one view; its parts are this one's own.

        Raises:
            InvalidInputError: no such view.
        """
        projection = self.projection.view(name)
        return Hasher(projection, cast(Quantizer, self.quantizer[name]), cast(Encoder, self.encoder[name]))

    @property
    def parts(self) -> dict[str, Hasher]:
        """The hasher of each view."""
        return {name: self.view(name) for name in self.projection.views}

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Which view asks and which is searched: across views first, then within."""
        names = tuple(self.projection.views)
        pairs = [(query, database) for query in names for database in names]
        return tuple(sorted(pairs, key=lambda pair: pair[0] == pair[1]))

    @property
    def bits(self) -> int:
        """Code length b."""
        return next(iter(self.parts.values())).bits

    @property
    def input_dim(self) -> dict[str, int]:
        """Feature dimension d of each view."""
        return {name: hasher.input_dim for name, hasher in self.parts.items()}

    @property
    def distance(self) -> Distance:
        """The distance that codes are ranked by."""
        return next(iter(self.parts.values())).distance

    @property
    def fits_on_shares(self) -> bool:
        """Whether processes can fit this on shares of the pairs, by sums over all of them."""
        return self.projection.fits_on_shares and all(
            isinstance(part.encoder, Identity) and part.quantizer.fits_on_shares for part in self.parts.values()
        )

    @property
    def identity(self) -> str:
        """SHA-256, in hex, of what this is built of and its weights: the same exactly where two hashers are."""
        return storage.identity(self.description(), self.state_dict())

    def fit(
        self,
        features: Views,
        *,
        labels: Tensor | ArrayLike | None = None,
        affinity: Affinity | TrainingAffinity | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Set each view's encoder, fit the projections together on pairs, then each view's quantiser.

        Args:
            features: the training items; those that lack a view are left out of the projections' fit.
            labels: whole numbers (n,) or truth values (n, c), where a part uses them.
            affinity: which training items are neighbours, where a part uses it.
            generator: CPU generator of every random draw; None draws from one seeded with 0.

        Returns:
            self, fitted.

        Raises:
            InvalidInputError: whatever a part refuses.
        """
        generator = generator or torch.Generator().manual_seed(0)
        if labels is not None:
            labels = as_labels(labels, len(features), "training labels")
        for name, hasher in self.parts.items():
            if name in features.features:
                as_features(features.of(name), hasher.input_dim, name=f"training {name} features")
        pairs = affinity.supervise(features, labels) if isinstance(affinity, Affinity) else affinity  # type: ignore[arg-type]
        encoded = {}
        for name, hasher in self.parts.items():
            with torch.no_grad():
                hasher.encoder.fit(features.of(name).to(hasher.projection.is_fitted.device), generator)
            encoded[name] = hasher.encoded(features.features[name])
        self.projection.fit(features.map(encoded), labels=labels, affinity=pairs, generator=generator)
        for name, hasher in self.parts.items():
            rows = features.rows(name)
            projections = hasher.project(features.of(name))
            hasher.quantizer.fit(
                projections,
                labels=None if labels is None else labels[rows.to(labels.device)],
                affinity=None if pairs is None else pairs.subset(rows),
                generator=generator,
            )
            warn_of_one_code(hasher.quantizer, projections, f"{type(self.projection).__name__} of {name}")
        return self

    def forward(self, features: Views) -> dict[str, Tensor]:
        """Relaxed bits in [-1, 1] of each view's items, differentiable in the features and every parameter."""
        return {name: hasher(features.of(name)) for name, hasher in self.parts.items()}

    def encode(self, features: Views) -> dict[str, Tensor]:
        """Packed codes of each view's items, as `Hasher.encode`; an item that lacks a view has no code there."""
        return {name: hasher.encode(features.of(name)) for name, hasher in self.parts.items()}

    def codes_of(self, features: Views) -> dict[str, tuple[Tensor, Tensor]]:
        """Packed codes of each view, and the rows int64 of the items that they are of."""
        return {name: (codes, features.rows(name)) for name, codes in self.encode(features).items()}

    def calibrate(self, features: Views) -> None:
        """Set the unit of margins of each view's quantiser from training items."""
        for name, hasher in self.parts.items():
            hasher.calibrate(features.of(name))

    def relaxed(self, copies: Sequence[Views]) -> list[tuple[Tensor, Tensor]]:
        """Relaxed codes in unary and projections of each copy of the same items: of one view's items, then the other's.

        Both views' codes lie in one batch, so a loss over its pairs compares them across views and within.
        """
        by_view = [hasher.relaxed([copy.of(name) for copy in copies]) for name, hasher in self.parts.items()]
        return [
            (torch.cat([codes for codes, _ in views]), torch.cat([projections for _, projections in views]))
            for views in zip(*by_view, strict=True)
        ]

    def coded_rows(self, features: Views) -> tuple[Tensor, Tensor]:
        """Of each code that `relaxed` gives: the row of its item, and the number of its view; both int64."""
        rows = [features.rows(name) for name in features.names]
        views = [torch.full_like(of_view, number) for number, of_view in enumerate(rows)]
        return torch.cat(rows), torch.cat(views)

    def save(self, folder: str | Path) -> None:
        """Write `hasher.json` and `weights.safetensors` into a folder, made where missing, each whole or not at all.

        Raises:
            InvalidInputError: a part is not fitted, or holds an argument that JSON cannot.
        """
        self.projection.check_fitted()
        for hasher in self.parts.values():
            hasher.quantizer.check_fitted()
        storage.write(Path(folder), self.description(), self.state_dict())

    @classmethod
    def build(cls, description: dict[str, Any]) -> "CrossModalHasher":
        """A hasher with the parts and sizes of the one described, its weights still to be loaded.

        Raises:
            InvalidInputError: a class that is unknown, or that does not take the arguments.
        """
        projection = cast(PairedProjection, storage.rebuild(description["projection"], PairedProjection))
        quantizers = {
            name: cast(Quantizer, storage.rebuild(part, Quantizer)) for name, part in description["quantizers"].items()
        }
        encoders = {
            name: cast(Encoder, storage.rebuild(part, Encoder)) for name, part in description["encoders"].items()
        }
        return cls(projection, quantizers, encoders)

    def description(self) -> dict[str, Any]:
        """The classes and arguments that this is built of, in values that JSON holds."""
        return {
            "encoders": {name: storage.describe(part) for name, part in self.encoder.items()},
            "projection": storage.describe(self.projection),
            "quantizers": {name: storage.describe(part) for name, part in self.quantizer.items()},
            "sizes": {"input_dims": self.input_dim, "projections": self.projection.output_dim, "bits": self.bits},
        }
