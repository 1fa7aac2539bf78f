"""Two hashers that share a code space, so that images find texts and texts find images."""

from collections.abc import Mapping
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
from deephash.hashers.base_hasher import BaseHasher
from deephash.hashers.hasher import BLOCK_ROWS, Hasher
from deephash.hashers.hasher_checks import warn_of_one_code
from deephash.projections.paired.base import PairedProjection
from deephash.quantizers.base import Quantizer
from deephash.ranking.distance import Distance
from deephash.validation import InvalidInputError, as_features, as_labels


@final
class CrossModalHasher(BaseHasher):
    """Map from features of two views to packed codes of one space.

    `view(name)` is the hasher of one view, which encodes new items of that view without the other view.

    Shape:
        `Views` of n items → packed codes uint8 (m, ⌈b/8⌉) by view; m of the n items have that view.

    Args:
        projection: the views' projections, fitted together.
        quantizers: a quantiser for each view by its name, all of the same class and bits.
        encoders: the encoder before each view's projection; None uses the features themselves.

    Raises:
        InvalidInputError: the parts belong to other views, or do not fit each other.

    Examples:
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
        """Return the hasher of one view, which shares its parts with this one.

        Raises:
            InvalidInputError: there is no such view.
        """
        projection = self.projection.view(name)
        return Hasher(projection, cast(Quantizer, self.quantizer[name]), cast(Encoder, self.encoder[name]))

    @property
    def views(self) -> dict[str, Hasher]:
        """The hasher of each view by the view's name."""
        return {name: self.view(name) for name in self.projection.views}

    @property
    def bits(self) -> int:
        """Code length b."""
        return next(iter(self.views.values())).bits

    @property
    def input_dim(self) -> dict[str, int]:
        """Feature dimension d of each view."""
        return {name: hasher.input_dim for name, hasher in self.views.items()}

    @property
    def distance(self) -> Distance:
        """Distance by which codes are ranked."""
        return next(iter(self.views.values())).distance

    @property
    def fits_on_shares(self) -> bool:
        """Whether processes can fit this hasher on shares of the pairs, by sums over all processes."""
        return self.projection.fits_on_shares and all(
            isinstance(hasher.encoder, Identity) and hasher.quantizer.fits_on_shares for hasher in self.views.values()
        )

    def fit(
        self,
        features: Views,
        *,
        labels: Tensor | ArrayLike | None = None,
        affinity: Affinity | TrainingAffinity | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Fit each view's encoder, then the projections together on pairs, then each view's quantiser.

        Args:
            features: the training items; the projections are fitted on items with all views.
            labels: class indices (n,) or indicators (n, c), if a part uses them.
            affinity: which training items are neighbours, if a part uses it.
            generator: CPU generator of every random draw; None uses one seeded with 0.

        Returns:
            self, fitted.

        Raises:
            InvalidInputError: a part cannot be fitted on these items.
        """
        generator = generator or torch.Generator().manual_seed(0)
        if labels is not None:
            labels = as_labels(labels, len(features), "training labels")
        for name, hasher in self.views.items():
            if name in features.features:
                as_features(features.of(name), hasher.input_dim, name=f"training {name} features")
        pairs = affinity.supervise(features, labels) if isinstance(affinity, Affinity) else affinity  # type: ignore[arg-type]
        encoded = {}
        for name, hasher in self.views.items():
            hasher.fit_encoder(features.of(name), generator)
            encoded[name] = hasher.apply_encoder(features.features[name])
        self.projection.fit(features.map(encoded), labels=labels, affinity=pairs, generator=generator)
        for name, hasher in self.views.items():
            rows = features.rows(name)
            projections = hasher.project(features.of(name))
            hasher.quantizer.fit(
                projections,
                labels=None if labels is None else labels[rows.to(labels.device)],
                affinity=None if pairs is None else pairs.subset(rows),
                generator=generator,
            )
            warn_of_one_code(hasher.quantizer, projections, f"{type(self.projection).__name__} of {name}", BLOCK_ROWS)
        return self

    def forward(self, features: Views) -> dict[str, Tensor]:
        """Compute relaxed bits in [-1, 1] of each view's items, differentiable in the features and every parameter."""
        return {name: hasher(features.of(name)) for name, hasher in self.views.items()}

    def encode(self, features: Views) -> dict[str, Tensor]:
        """Compute packed codes of each view's items as `Hasher.encode` does; an item without a view has no code."""
        return {name: hasher.encode(features.of(name)) for name, hasher in self.views.items()}

    def check_fitted(self) -> None:
        """Raise `NotFittedError` unless the projection and every quantiser are fitted."""
        self.projection.check_fitted()
        for hasher in self.views.values():
            hasher.quantizer.check_fitted()

    @classmethod
    def build(cls, description: dict[str, Any]) -> "CrossModalHasher":
        """Build a hasher from a description that `describe` returned; its weights are loaded later.

        Raises:
            InvalidInputError: a class is unknown or does not accept the arguments.
        """
        projection = cast(PairedProjection, storage.rebuild(description["projection"], PairedProjection))
        quantizers = {
            name: cast(Quantizer, storage.rebuild(part, Quantizer)) for name, part in description["quantizers"].items()
        }
        encoders = {
            name: cast(Encoder, storage.rebuild(part, Encoder)) for name, part in description["encoders"].items()
        }
        return cls(projection, quantizers, encoders)

    def describe(self) -> dict[str, Any]:
        """Return the classes and arguments of the parts, as JSON values."""
        return {
            "encoders": {name: storage.describe(part) for name, part in self.encoder.items()},
            "projection": storage.describe(self.projection),
            "quantizers": {name: storage.describe(part) for name, part in self.quantizer.items()},
            "sizes": {"input_dims": self.input_dim, "projections": self.projection.output_dim, "bits": self.bits},
        }
