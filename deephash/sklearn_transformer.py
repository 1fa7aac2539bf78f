"""Hashing as a scikit-learn transformer: features in, codes out, in pipelines and grid searches."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from deephash import registry
from deephash.affinity.label import Label
from deephash.codes import code_bytes
from deephash.conversion import first_line, plain_number
from deephash.data.labels import canonical_labels
from deephash.hashers.hasher import Hasher
from deephash.io.configuration import read_choice
from deephash.projections.base import Projection
from deephash.quantizers.base import Quantizer
from deephash.validation import InvalidInputError, check_choice, check_whole

PACKED, BITS = "packed", "bits"
MAX_SEED = 2**63 - 1


class HashingTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Fits a hasher and turns features into its codes.

    Settings are taken as they are and checked by `fit`, as scikit-learn's are.

    Args:
        method: a projection by its name in conf/method, as itq, sh or ksh.
        bits: code length b.
        quantizer: a quantiser by its name in conf/quantizer, as sbq or dbq.
        seed: of every random draw.
        output: packed, bytes uint8 (n, ⌈b/8⌉) in deephash's order of bits; or bits, uint8 (n, b) of 0 and 1.
        method_settings: the method's own, as its YAML lists them; None for its defaults.
        quantizer_settings: the quantiser's own.

    Attributes:
        hasher_: the fitted `Hasher`.
        n_features_in_: feature dimension d.

    Raises:
        InvalidInputError: from `fit`: an unknown name or setting, or what the method refuses.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(100, 16))
        >>> HashingTransformer(method="itq", bits=12).fit_transform(features).shape
        (100, 2)
    """

    def __init__(
        self,
        method: str = "itq",
        bits: int = 64,
        quantizer: str = "sbq",
        seed: int = 0,
        output: str = PACKED,
        method_settings: Mapping[str, Any] | None = None,
        quantizer_settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.bits = bits
        self.quantizer = quantizer
        self.seed = seed
        self.output = output
        self.method_settings = method_settings
        self.quantizer_settings = quantizer_settings

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Fit the hasher.

        Args:
            X: numbers (n, d).
            y: class of each item (n,), or 0 and 1 (n, c), one-hot or several labels an item; for methods that learn
                from labels, others ignore it.

        Returns:
            self.

        Raises:
            InvalidInputError: a setting that is no good, or no labels for a method that needs them.
        """
        check_choice(self.output, (PACKED, BITS), "output")
        array = validate_data(self, X, dtype=[np.float32, np.float64], ensure_min_samples=2)
        features = torch.from_numpy(np.array(array, np.float32))
        # Settings stay as they were given, as scikit-learn wants, and parts take NumPy's numbers.
        check_whole(self.seed, 0, "seed", MAX_SEED)
        projection_class, build_projection = part_builder("method", self.method, Projection, self.method_settings)
        quantizer_class, build_quantizer = part_builder("quantizer", self.quantizer, Quantizer, self.quantizer_settings)
        quantizer = build_quantizer(bits=self.bits)
        projection = build_projection(input_dim=features.shape[1], output_dim=quantizer.projection_dim)
        requires = projection_class.requires | quantizer_class.requires
        labels = None
        if requires:
            if y is None:
                raise InvalidInputError(f"{self.method} with {self.quantizer} learns from labels; give y.")
            labels = class_labels(np.asarray(y), len(features))
        generator = torch.Generator().manual_seed(plain_number(self.seed))
        affinity = Label() if "affinity" in requires else None
        self.hasher_ = Hasher(projection, quantizer).fit(
            features, labels=labels, affinity=affinity, generator=generator
        )
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.uint8]:
        """Codes of items.

        Args:
            X: numbers (n, d).

        Returns:
            uint8, packed (n, ⌈b/8⌉) or bits (n, b).
        """
        check_is_fitted(self)
        array = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        codes: NDArray[np.uint8] = self.hasher_.encode(torch.from_numpy(np.array(array, np.float32))).numpy()
        if self.output == BITS:
            return np.unpackbits(codes, axis=1, count=plain_number(self.bits), bitorder="little")
        return codes

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn is to know: codes are uint8, whatever the features are."""
        tags: Tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _n_features_out(self) -> int:
        """Number of columns that `transform` gives."""
        bits: int = plain_number(self.bits)
        return bits if self.output == BITS else code_bytes(bits)


def class_labels(y: NDArray[Any], rows: int) -> Tensor:
    """Labels as methods take them.

    Args:
        y: classes (n,) or (n, 1) of any kind that sorts, or 0 and 1 (n, c): one-hot classes, or several labels an item.
        rows: the n that is required.

    Returns:
        Class indices int64 (n,), or an indicator bool (n, c) where an item has other than one label.

    Raises:
        InvalidInputError: another number of rows, columns of other numbers, NaN, or values that do not sort.
    """
    if y.ndim == 2 and y.shape[1] > 1:
        indicator, _ = canonical_labels(y, rows, "y")
        if not bool((indicator.sum(1) == 1).all()):
            return indicator
        y = indicator.int().argmax(1).numpy()
    try:
        if bool((y != y).any()):
            raise InvalidInputError("y holds NaN; give every item a class, or drop those without one.")
        return torch.from_numpy(np.unique(y, return_inverse=True)[1].reshape(-1))
    except TypeError as error:  # None, or numbers among words
        raise InvalidInputError(f"y holds values of several kinds ({first_line(error)}); give words alone.") from error


def part_builder(
    group: str, name: str, contract: type[Any], settings: Mapping[str, Any] | None
) -> tuple[type[Any], Any]:
    """The class that a choice of a group names, and a function that builds it with the choice's settings.

    Args:
        group: method or quantizer.
        name: stem of its YAML.
        contract: what the class must be a subclass of.
        settings: the user's, in place of the YAML's.

    Raises:
        InvalidInputError: no such choice or setting, or one that is more than a class: methods of two views, and those
            that are trained end to end.
    """
    settings_of_choice, chosen = read_choice(group, name)
    section = settings_of_choice if group == "quantizer" else settings_of_choice.get("projection", {})
    found: Any = registry.resolve(str(section.pop("_target_", "")))
    if found is None or not issubclass(found, contract) or chosen.get("train") == "joint":
        raise InvalidInputError(
            f"{group}={name!r} is more than a {contract.__name__.lower()}; train it by deephash train {group}={name}."
        )
    allowed = inspect.signature(found).parameters
    for key in settings or ():
        if key not in allowed:
            raise InvalidInputError(f"{group}={name} has no setting {key!r}; it has {', '.join(allowed)}.")
    return found, partial(found, **build_nested({**section, **plain_number(dict(settings or {}))}))


def build_nested(settings: Any) -> Any:
    """Settings with the parts that a `_target_` describes built; a new object at each call."""
    if isinstance(settings, list):
        return [build_nested(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    built = {key: build_nested(value) for key, value in settings.items() if key != "_target_"}
    if "_target_" not in settings:
        return built
    found = registry.resolve(settings["_target_"])
    if found is None:
        raise InvalidInputError(f"_target_={settings['_target_']!r} is no class of deephash; name one by its package.")
    return found(**built)
