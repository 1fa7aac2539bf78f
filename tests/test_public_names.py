"""The public names: none disappears, and a deployed hasher needs little beside torch."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deephash
from deephash.registry import FAMILIES, get_contract

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
# Methods and quantisers that have been published under these names.
PROJECTIONS = [
    "AGH",
    "BRE",
    "BRESupervised",
    "FastHash",
    "GRH",
    "GRHRBF",
    "ITQ",
    "ITQCCA",
    "KSH",
    "LSH",
    "PCAH",
    "SDH",
    "SGH",
    "SH",
    "SKLSH",
    "STH",
    "STHRBF",
    "SpH",
    "CMFH",
    "CMSSH",
    "CRH",
    "CVH",
    "IMH",
    "PDH",
    "RCMH",
    "SCM",
    "SCMSequential",
    "SePH",
    "AdaptHash",
    "HCOH",
    "OKH",
    "OSH",
    "OSupHash",
    "OnlineMIHash",
    "StreamingITQ",
    "StreamingITQCCA",
    "StreamingJoint",
    "StreamingPCAH",
]
QUANTIZERS = [
    "DBQ",
    "HQ",
    "MHQ",
    "NPQ",
    "SBQ",
    "VBQ",
]
LOSSES = [
    "AP",
    "Balance",
    "CIBHash",
    "CSQ",
    "Classification",
    "DCMH",
    "DJSRH",
    "DPN",
    "DPSH",
    "DSDH",
    "DSH",
    "DTSH",
    "Decorrelation",
    "GradedAP",
    "GreedyPenalty",
    "HashNet",
    "ITQError",
    "InnerProduct",
    "MIHash",
    "MetricLearning",
    "NPQObjective",
    "OrthoHash",
    "PooledAP",
    "Quantization",
    "Reconstruction",
    "SimilarityPreserving",
    "SupCon",
]
RELAXATIONS = [
    "BiHalf",
    "BinaryConcrete",
    "LearnedStep",
    "PlainStraightThrough",
    "PlainTanh",
    "ScaledStraightThrough",
    "SigmoidStaircase",
    "StochasticNeuron",
    "StraightThrough",
    "Tanh",
]
ENCODERS = [
    "AnchorMap",
    "Convolutional",
    "FeatureHead",
    "GridConvolutional",
    "Identity",
    "MLP",
    "RandomFourier",
    "ResidualMLP",
    "SignedRoots",
    "SymmetricGIST",
    "TorchvisionBackbone",
]


def documented():
    table = PAGE.split("## Public names", 1)[1].split("\n## ", 1)[0]
    return sorted(set(re.findall(r"`(deephash[\w.]*)`", table)))


def test_names_are_documented():
    assert set(deephash.__all__) - {"__version__"} <= {name.rpartition(".")[2] for name in documented()}


@pytest.mark.parametrize("name", documented())
def test_documented_name_is_there(name):
    package, _, last = name.rpartition(".")
    assert hasattr(importlib.import_module(package), last) or importlib.import_module(name)


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("deephash", PROJECTIONS + QUANTIZERS),
        ("deephash.quantizers", [*QUANTIZERS, "Quantizer"]),
        ("deephash.losses", [*LOSSES, "Loss"]),
        ("deephash.quantizers.relaxations", [*RELAXATIONS, "Relaxation"]),
        ("deephash.encoders", [*ENCODERS, "Encoder"]),
        ("deephash.ranking", ["AutoEngine", "NumbaEngine", "RankingEngine", "TorchEngine", "TritonEngine"]),
        ("deephash.indexes", ["DuckDB", "FaissHNSW", "Flat", "Index", "LanceDB", "MIH", "PGVector", "USearch"]),
        ("deephash.affinity", ["Affinity", "EpsilonBall", "Label", "NearestNeighbours", "Pairs"]),
        ("deephash.compression", ["AdditiveCoder", "AsymmetricScan", "DecodedVectors", "LinearDecoder", "Whitening"]),
    ],
)
def test_no_class_disappears(package, names):
    module = importlib.import_module(package)
    assert [name for name in names if not isinstance(getattr(module, name, None), type)] == []
    assert set(names) <= set(dir(module))


def test_packages_are_there_after_import_deephash():
    packages = [name for name in documented() if re.fullmatch(r"deephash\.[a-z_.]+", name)]
    functions = ("index", "load", "load_index", "open_index")
    packages = [name for name in packages if name.removeprefix("deephash.") not in functions]
    assert len(packages) > 12
    code = "import deephash\n" + "\n".join(f"{name}.__path__" for name in packages)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_star_import_gives_the_public_classes():
    names: dict[str, object] = {}
    exec("from deephash.projections import *", names)
    assert {"ITQ", "KSH", "Projection"} <= set(names)
    assert "exports" not in names


@pytest.mark.parametrize("package", sorted({package for package in FAMILIES.values() if package != "deephash.metrics"}))
def test_type_checkers_know_the_contract(package):
    """Classes of a family are imported lazily, as `Any`, from which strict mypy lets nobody inherit."""
    contract = get_contract(package)
    if contract is None:
        return
    text = Path(importlib.import_module(package).__file__).read_text()
    assert f"from {contract.__module__} import {contract.__name__} as {contract.__name__}" in text


def test_a_deployed_hasher_needs_neither_hydra_nor_lightning(tmp_path):
    code = f"""
import sys
import numpy as np
import deephash
from deephash import ITQ, Hasher
features = np.random.default_rng(0).normal(size=(200, 16)).astype("float32")
hasher = Hasher(ITQ(16, 12)).fit(features)
hasher.save({str(tmp_path / "hasher")!r})
hasher = deephash.load({str(tmp_path / "hasher")!r})
codes = hasher.encode(features)
assert hasher.search(features[:3], codes, k=1)[1].shape == (3, 1)
deephash.index(codes, "mih", hasher=hasher).save({str(tmp_path / "index")!r})
deephash.load_index({str(tmp_path / "index")!r}).search_features(hasher, features[:3], k=2)
heavy = ("hydra", "lightning", "wandb", "torchvision", "matplotlib", "pandas", "sklearn")
print(*(name for name in heavy if name in sys.modules))
deephash.HashingTransformer(method="agh", bits=8).fit_transform(features)
print(*(name for name in ("hydra", "lightning", "wandb", "matplotlib") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
