"""Hashing as a scikit-learn transformer: features in, codes out, in pipelines and grid searches."""

import inspect
from collections.abc import Callable, Mapping
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
from deephash.conversion import shorten_error, to_plain_number
from deephash.data.labels import parse_labels
from deephash.hashers.hasher import Hasher
from deephash.io.configuration import list_choices, read_choice
from deephash.projections.base import Projection
from deephash.quantizers.base import Quantizer
from deephash.validation import InvalidInputError, check_choice, check_whole

PACKED, BITS = "packed", "bits"
MAX_SEED = 2**63 - 1
# For each group of choices, the families of the registry whose plugins are also choices.
FAMILIES = {
    "method": ("projections", "online_projections", "paired_projections"),
    "quantizer": ("quantizers",),
}


class HashingTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer from features to the codes of a hasher.

    `fit` checks the settings, as is usual in scikit-learn.

    Args:
        method: a projection by the name of its file in conf/method, such as itq, sh or ksh, or of an installed
            package's entry point.
        bits: code length b.
        quantizer: a quantiser by the name of its file in conf/quantizer, such as sbq or dbq, or of an entry point.
        seed: seed of every random draw.
        output: "packed" for bytes uint8 (n, ⌈b/8⌉) in deephash's order of bits; "bits" for 0 and 1, uint8 (n, b).
        method_settings: arguments of the method's class; None for the defaults in its YAML file.
        quantizer_settings: arguments of the quantiser's class.

    Attributes:
        hasher_: the fitted `Hasher`.
        n_features_in_: feature dimension d.

    Raises:
        InvalidInputError: in `fit`: an unknown name or setting, or items that the method cannot be fitted on.

    Examples:
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
            y: class of each item (n,), or a table (n, c) of 0 and 1 with one or several labels per item. Methods that
                do not learn from labels ignore it.

        Returns:
            self.

        Raises:
            InvalidInputError: a setting is invalid, or the method learns from labels and y is None.
        """
        check_choice(self.output, (PACKED, BITS), "output")
        array = validate_data(self, X, dtype=[np.float32, np.float64], ensure_min_samples=2)
        features = torch.from_numpy(np.array(array, np.float32))
        # Settings stay as given, as scikit-learn requires; parts accept NumPy's numbers.
        check_whole(self.seed, 0, "seed", MAX_SEED)
        projection_class, build_projection = prepare_part("method", self.method, Projection, self.method_settings)
        quantizer_class, build_quantizer = prepare_part("quantizer", self.quantizer, Quantizer, self.quantizer_settings)
        quantizer = build_quantizer(bits=self.bits)
        projection = build_projection(input_dim=features.shape[1], output_dim=quantizer.projection_dim)
        requires = projection_class.requires | quantizer_class.requires
        labels = None
        if requires:
            if y is None:
                raise InvalidInputError(f"{self.method} with {self.quantizer} learns from labels; give y.")
            labels = convert_labels(np.asarray(y), len(features))
        generator = torch.Generator().manual_seed(to_plain_number(self.seed))
        affinity = Label() if "affinity" in requires else None
        self.hasher_ = Hasher(projection, quantizer).fit(
            features, labels=labels, affinity=affinity, generator=generator
        )
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.uint8]:
        """Compute codes.

        Args:
            X: numbers (n, d).

        Returns:
            uint8, packed (n, ⌈b/8⌉) or bits (n, b).
        """
        check_is_fitted(self)
        array = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        codes: NDArray[np.uint8] = self.hasher_.encode(torch.from_numpy(np.array(array, np.float32))).numpy()
        if self.output == BITS:
            return np.unpackbits(codes, axis=1, count=to_plain_number(self.bits), bitorder="little")
        return codes

    def __sklearn_tags__(self) -> Tags:
        """Declare that codes are uint8 for features of any dtype."""
        tags: Tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _n_features_out(self) -> int:
        """Number of columns of the output of `transform`."""
        bits: int = to_plain_number(self.bits)
        return bits if self.output == BITS else code_bytes(bits)


def convert_labels(y: NDArray[Any], rows: int) -> Tensor:
    """Convert labels in scikit-learn's formats to those that methods accept.

    Args:
        y: classes (n,) or (n, 1) of any sortable type, or 0 and 1 (n, c): one-hot classes, or several labels per item.
        rows: the required n.

    Returns:
        Class indices int64 (n,), or an indicator bool (n, c) if an item has none or several labels.

    Raises:
        InvalidInputError: another number of rows, columns of numbers other than 0 and 1, NaN, or values that cannot be
            sorted.
    """
    if y.ndim == 2 and y.shape[1] > 1:
        indicator, _ = parse_labels(y, rows, "y")
        if not bool((indicator.sum(1) == 1).all()):
            return indicator
        y = indicator.int().argmax(1).numpy()
    try:
        if bool((y != y).any()):
            raise InvalidInputError("y contains NaN; give every item a class, or drop those without one.")
        return torch.from_numpy(np.unique(y, return_inverse=True)[1].reshape(-1))
    except TypeError as error:  # None, or numbers among strings
        raise InvalidInputError(
            f"y contains values of several types ({shorten_error(error)}); give strings only."
        ) from error


def prepare_part(
    group: str, name: str, contract: type, settings: Mapping[str, Any] | None
) -> tuple[type[Any], Callable[..., Any]]:
    """Return the class of a choice, and a function that builds it with the choice's settings.

    Args:
        group: method or quantizer.
        name: stem of a YAML file, or the entry point of an installed package.
        contract: base class that the class must have.
        settings: the user's settings, which override the YAML file's.

    Raises:
        InvalidInputError: no such choice or setting, or a choice that is not a single class: a method of two views, or
            one that is trained end to end.
    """
    kind, defaults = find_choice(group, name)
    if kind is None or not issubclass(kind, contract):
        raise InvalidInputError(
            f"{group}={name!r} is not a single {contract.__name__.lower()}; run deephash train {group}={name} instead."
        )
    allowed = inspect.signature(kind).parameters
    for key in settings or ():
        if key not in allowed:
            raise InvalidInputError(f"{group}={name} has no setting {key!r}; it has {', '.join(allowed)}.")
    return kind, partial(kind, **build_nested({**defaults, **to_plain_number(dict(settings or {}))}))


def find_choice(group: str, name: str) -> tuple[type[Any] | None, dict[str, Any]]:
    """Return the class and the settings of a choice; an installed package's class has its own defaults.

    Raises:
        InvalidInputError: no such choice, or an installed package that cannot be imported.
    """
    files = list_choices(group)
    plugins = {word: family for family in FAMILIES[group] for word in registry.find_plugins(family)}
    check_choice(name, {*files, *plugins}, group)
    if name not in files:
        return registry.find(plugins[name], name, group), {}
    content, other_groups = read_choice(files[name])
    section = content if group == "quantizer" else content.get("projection", {})
    target = str(section.pop("_target_", ""))
    return None if other_groups.get("train") == "joint" else registry.resolve(target), section


def build_nested(settings: Any) -> Any:
    """Return settings in which each mapping with a `_target_` is replaced by a new object of that class."""
    if isinstance(settings, list):
        return [build_nested(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    arguments = {key: build_nested(value) for key, value in settings.items() if key != "_target_"}
    if "_target_" not in settings:
        return arguments
    kind = registry.resolve(settings["_target_"])
    if kind is None:
        raise InvalidInputError(
            f"_target_={settings['_target_']!r} is not a class of deephash; give a public name, such as "
            "deephash.projections.ITQ."
        )
    return kind(**arguments)
