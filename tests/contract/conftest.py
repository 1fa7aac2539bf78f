"""Discovery for the contract tests: every final class of a family, with no list to keep.

Classes of installed packages that add to a family by an entry point are tested in the same way.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from deephash.affinity.label import Label
from deephash.augmentations.base import Augmentation
from deephash.data.views import Views
from deephash.encoders.base import Encoder
from deephash.indexes.base import Index
from deephash.losses.base import Loss
from deephash.metrics.user_metric import UserMetric
from deephash.projections.base import Projection
from deephash.projections.online.base import OnlineProjection
from deephash.projections.paired.base import PairedProjection
from deephash.quantizers.base import Quantizer
from deephash.quantizers.relaxations.base import Relaxation
from deephash.registry import get_public_name, list_plugins_of, load_plugin

CONF = Path(__file__).resolve().parents[2] / "conf"
FAMILIES = {
    "projection_class": ("deephash.projections deephash.projections.online", Projection, "method"),
    "online_class": ("deephash.projections.online", OnlineProjection, "method"),
    "paired_class": ("deephash.projections.paired", PairedProjection, "method"),
    "quantizer_class": ("deephash.quantizers", Quantizer, "quantizer"),
    "relaxation_class": ("deephash.quantizers.relaxations", Relaxation, "relaxation"),
    "loss_class": ("deephash.losses", Loss, "loss"),
    "index_class": ("deephash.indexes", Index, "index"),
    "encoder_class": ("deephash.encoders", Encoder, "encoder"),
    "augmentation_class": ("deephash.augmentations", Augmentation, "augmentation"),
    "user_metric_class": ("deephash.metrics", UserMetric, "user_metric"),
}
DIMENSION, PROJECTIONS, ROWS, CLASSES = 16, 11, 400, 4
VIEW_DIMENSIONS, PAIRS = {"image": 12, "text": 8}, 160


def final_classes(package_names, contract):
    """The classes of packages, and of entry points to their families, that fulfil a contract and can be built."""
    for package_name in package_names.split():
        package = importlib.import_module(package_name)
        for module_info in pkgutil.iter_modules(package.__path__, package_name + "."):
            module = importlib.import_module(module_info.name)
            for _, found in inspect.getmembers(module, inspect.isclass):
                if (
                    found.__module__ == module.__name__
                    and issubclass(found, contract)
                    and not inspect.isabstract(found)
                ):
                    yield found
        yield from (load_plugin(point) for point in list_plugins_of(package_name))


def pytest_generate_tests(metafunc):
    for fixture, (package, contract, _) in FAMILIES.items():
        if fixture in metafunc.fixturenames:
            classes = list(final_classes(package, contract))
            needing = {
                "MetricLearning": pytest.mark.needs("pytorch_metric_learning"),
                "Timm": pytest.mark.needs("timm"),
                "Transformers": pytest.mark.needs("transformers"),
            }
            marked = [pytest.param(found, marks=needing.get(found.__name__, ())) for found in classes]
            metafunc.parametrize(fixture, marked, ids=[found.__name__ for found in classes])
    if "config_file" in metafunc.fixturenames:
        files = sorted({file for _, _, group in FAMILIES.values() for file in (CONF / group).glob("*.yaml")})
        metafunc.parametrize("config_file", files, ids=[f"{file.parent.name}/{file.stem}" for file in files])


class Sample:
    """Features of four clusters, their labels, and what `fit` of a class requires of them."""

    def __init__(self, seed=0, rows=ROWS, dimension=DIMENSION, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(rows) % CLASSES
        spread = torch.linspace(2, 0.5, dimension, dtype=torch.float64)
        centres = 2 * torch.randn(CLASSES, dimension, generator=generator, dtype=torch.float64)
        noise = torch.randn(rows, dimension, generator=generator, dtype=torch.float64)
        self.features = ((centres[self.labels] + noise) * spread + 3).to(dtype)

    def supervision(self, fitted_class, rows=slice(None)):
        requires = getattr(fitted_class, "requires", frozenset())
        given = {}
        if "labels" in requires:
            given["labels"] = self.labels[rows]
        if "affinity" in requires:
            given["affinity"] = Label().supervise(self.features[rows], self.labels[rows])
        return given


class PairedSample(Sample):
    """Pairs of four classes as images and texts are stored: shares of visual words, shares of topics, each to 1."""

    def __init__(self, seed=0, rows=PAIRS, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(rows) % CLASSES
        # The views of a pair have its class in common, and something of its own.
        centres = 1.5 * torch.randn(CLASSES, 5, generator=generator, dtype=torch.float64)
        common = centres[self.labels] + 0.7 * torch.randn(rows, 5, generator=generator, dtype=torch.float64)
        features = {}
        for name, dimension in VIEW_DIMENSIONS.items():
            weights = torch.randn(5, dimension, generator=generator, dtype=torch.float64) / 2
            noise = torch.randn(rows, dimension, generator=generator, dtype=torch.float64) / 4
            features[name] = (common @ weights + noise).softmax(1).to(dtype)
        self.features = Views(features)


# What users' numbers are now and then, of rows of float32: each is fitted, or refused in one line of its own.
ODD_NUMBERS = {
    "half": torch.Tensor.half,
    "offset": lambda rows: rows + 1e6,
    "large": lambda rows: rows * 1e12,
    "small": lambda rows: rows * 1e-12,
    "constant columns": lambda rows: rows.index_fill(1, torch.arange(0, rows.shape[1], 2), 3.25),
    "repeated columns": lambda rows: rows[:, :1].expand_as(rows).contiguous(),
    "few distinct rows": lambda rows: rows[:5].repeat(len(rows) // 5, 1),
    "all the same": lambda rows: rows[:1].repeat(len(rows), 1),
    "zeros": torch.zeros_like,
}
# Beyond what squares can be taken of.
EXTREMES = [(1e30, torch.float32), (1e-30, torch.float32), (1e300, torch.float64), (1e-300, torch.float64)]


@pytest.fixture(scope="session")
def odd_numbers():
    """Functions of a multiple of five rows, by name, and the scales and dtypes that are refused."""
    return ODD_NUMBERS, EXTREMES


@pytest.fixture
def double_by_default():
    """As a user may set it: new tensors are float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def sample():
    return Sample()


@pytest.fixture
def paired_sample():
    return PairedSample()


@pytest.fixture(scope="session")
def make_paired_sample():
    return PairedSample


@pytest.fixture(scope="session")
def make_sample():
    return Sample


@pytest.fixture(scope="session")
def configs_of(read_config):
    """The YAML files of a class's family that name it as their target, by file stem."""

    def find(fitted_class):
        (group,) = {group for _, contract, group in FAMILIES.values() if issubclass(fitted_class, contract)}
        path = get_public_name(fitted_class)
        found = {}
        for file in sorted((CONF / group).glob("*.yaml")):
            config = OmegaConf.to_container(read_config(file), resolve=False)
            if path in (config.get("_target_"), config.get("projection", {}).get("_target_")):
                found[file.stem] = config
        return found

    return find
