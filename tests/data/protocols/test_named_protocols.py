"""The named protocols, as conf/protocol has them, on CIFAR-10's own labels: published sizes, strata, disjointness."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate

from deephash.data.protocols.five_way import FiveWay
from deephash.data.protocols.official import Official
from deephash.data.protocols.query_database import QueryDatabase
from deephash.validation import InvalidInputError

CONF = Path(__file__).resolve().parents[3] / "conf" / "protocol"

# protocol: (train, query, database, validation_query, validation_database) of CIFAR-10
CIFAR10_SIZES = {
    "five_way": (2000, 1000, 46000, 1000, 10000),
    "five_way_small": (12000, 3000, 30000, 3000, 12000),
    "literature": (59000, 1000, 59000, 0, 0),
    "grh": (2000, 1000, 59000, 0, 0),
    "cifar10_54k": (5000, 1000, 54000, 0, 0),
    "cifar10_59k": (5000, 1000, 59000, 0, 0),
    "cifar10_full": (50000, 10000, 50000, 0, 0),
    "official": (50000, 10000, 50000, 0, 0),
}
# Protocols of data in two views: (items, train, query, database).
PAIRED_SIZES = {
    "wiki_rcmh": (2866, 574, 573, 2293),
    "nuswide_rcmh": (186577, 1866, 1866, 184711),
    "nuswide_dcmh": (195834, 10500, 2100, 193734),
    "mirflickr_dcmh": (20015, 10000, 2000, 18015),
}


@pytest.fixture
def protocol(read_config):
    """A function that builds a protocol of conf/protocol, with command-line overrides as Hydra reads them."""

    def build(name, *overrides):
        config = read_config(CONF / f"{name}.yaml")
        for override in OverridesParser.create().parse_overrides([o.removeprefix("protocol.") for o in overrides]):
            assert override.key_or_group in config
            config[override.key_or_group] = override.value()
        return instantiate(config)

    return build


@pytest.fixture(scope="module")
def cifar10(cifar10_npz):
    with np.load(cifar10_npz, allow_pickle=False) as stored:
        labels = torch.from_numpy(stored["labels"].astype(np.int64))
        official = np.where(stored["is_test"], "query", "train")
    return labels, official


def test_every_protocol_is_listed():
    named = {path.stem for path in CONF.glob("*.yaml")}
    assert named == CIFAR10_SIZES.keys() | PAIRED_SIZES.keys() | {"given", "five_way_sift1m", "unseen_classes"}


@pytest.mark.parametrize("name", PAIRED_SIZES)
def test_published_sizes_on_data_in_two_views(name, protocol):
    n, *sizes = PAIRED_SIZES[name]
    split = protocol(name).split(n, torch.arange(n) % 10, None, 0)
    assert [len(part) for part in (split.train, split.query, split.database)] == sizes
    assert np.isin(split.train, split.database).all()
    assert not np.isin(split.query, split.database).any()


@pytest.mark.parametrize("name", CIFAR10_SIZES)
def test_published_sizes_on_cifar10(name, cifar10, protocol):
    labels, official = cifar10
    split = protocol(name).split(60000, labels, official, 0)
    parts = (split.train, split.query, split.database, split.validation_query, split.validation_database)
    assert tuple(len(part) for part in parts) == CIFAR10_SIZES[name]
    for part in parts:
        # CIFAR-10's classes are equal, so every part holds exactly a tenth of each.
        assert (np.bincount(labels[part], minlength=10) == len(part) // 10).all()
    assert split.hash == protocol(name).split(60000, labels, official, 0).hash
    drawn = name not in ("cifar10_full", "official")
    assert (split.hash != protocol(name).split(60000, labels, official, 1).hash) == drawn


def test_five_way_uses_every_item_once(cifar10, protocol):
    labels, _ = cifar10
    split = protocol("five_way").split(60000, labels, None, 7)
    parts = (split.train, split.query, split.database, split.validation_query, split.validation_database)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(60000))


def test_54k_and_59k_differ_in_searching_the_training_part_alone(cifar10, protocol):
    labels, _ = cifar10
    apart = protocol("cifar10_54k").split(60000, labels, None, 3)
    inside = protocol("cifar10_59k").split(60000, labels, None, 3)
    assert (apart.query == inside.query).all()
    assert (apart.train == inside.train).all()
    assert (np.union1d(apart.database, apart.train) == inside.database).all()
    assert len(np.intersect1d(apart.database, apart.train)) == 0


def test_sift1m_five_way_leaves_978000(protocol):
    split = protocol("five_way_sift1m").split(1_000_000, None, None, 0)
    assert [len(split.train), len(split.query), len(split.database)] == [10000, 1000, 978000]
    assert [len(split.validation_query), len(split.validation_database)] == [1000, 10000]


def test_official_parts_of_sift(protocol):
    official = np.array(["train"] * 30 + ["database"] * 100 + ["query"] * 10)
    split = protocol("official").split(140, None, official, 0)
    assert split.train.tolist() == list(range(30))
    assert split.database.tolist() == list(range(30, 130))
    assert split.query.tolist() == list(range(130, 140))


def test_official_samples_and_validation(protocol):
    official = np.array(["train"] * 100 + ["query"] * 50)
    overrides = ("protocol.queries=20", "protocol.train=30", "protocol.validation_queries=0.1")
    split = protocol("official", *overrides, "protocol.validation_database=25").split(150, None, official, 0)
    assert [len(split.query), len(split.train), len(split.database)] == [20, 30, 65]
    assert [len(split.validation_query), len(split.validation_database)] == [10, 25]
    assert split.query.min() >= 100
    assert set(split.train) < set(split.database)
    held_out = np.concatenate([split.validation_query, split.validation_database, split.database])
    assert np.array_equal(np.sort(held_out), np.arange(100))


def test_validation_is_cut_out_beside_the_same_queries(protocol):
    labels = torch.arange(6000) % 10
    plain = protocol("literature").split(6000, labels, None, 0)
    overrides = ("protocol.validation_queries=100", "protocol.validation_database=500")
    cut = protocol("literature", *overrides).split(6000, labels, None, 0)
    assert (plain.query == cut.query).all()
    assert [len(cut.validation_query), len(cut.validation_database), len(cut.database)] == [100, 500, 4400]
    assert (cut.train == cut.database).all()


def test_sized_database_counts_a_searched_training_sample(protocol):
    split = protocol("cifar10_59k", "protocol.database=300", "protocol.train=50", "protocol.queries=20").split(
        1000, torch.arange(1000) % 10, None, 0
    )
    assert [len(split.database), len(split.train), len(split.query)] == [300, 50, 20]
    assert set(split.train) < set(split.database)


def test_sizes_per_class_from_the_command_line(protocol):
    split = protocol("grh", "protocol.queries=7 per class", "protocol.train=0.1").split(
        1000, torch.arange(1000) % 10, None, 0
    )
    assert np.bincount(split.query % 10).tolist() == [7] * 10
    assert len(split.train) == 93  # a tenth of the 930 in the database


def test_multi_label_and_unlabelled_data_are_drawn_without_strata(protocol):
    indicator = torch.arange(1000)[:, None] % 10 == torch.arange(10)
    sizes = protocol("five_way_small").split(1000, indicator, None, 0)
    assert sizes.hash == protocol("five_way_small").split(1000, None, None, 0).hash
    unstratified = protocol("five_way_small", "protocol.stratified=false")
    assert sizes.hash == unstratified.split(1000, torch.arange(1000) % 10, None, 0).hash


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("five_way", (), "queries 1000 + validation_queries 1000 + train 2000 + validation_database 10000 = 14000"),
        ("literature", ("protocol.queries=5000",), "lower a size, such as protocol.queries=4999"),
        ("cifar10_59k", ("protocol.train=4500",), "train 4500 = 4500 items of the 4000 in the database"),
        ("cifar10_54k", (), "queries 1000 + train 5000 = 6000 items of the 5000 in the data"),
        ("official", (), "no official parts; choose a protocol that draws them, such as protocol=literature"),
    ],
)
def test_sizes_beyond_five_thousand_items(name, overrides, message, protocol):
    with pytest.raises(InvalidInputError) as caught:
        protocol(name, *overrides).split(5000, torch.arange(5000) % 10, None, 0)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_of_another_length(protocol):
    with pytest.raises(InvalidInputError, match="labels have 10 rows; expected 5000"):
        protocol("literature").split(5000, torch.arange(10), None, 0)


@pytest.mark.parametrize(
    ("official", "message"),
    [
        (
            np.array(["train", "query", "test"]),
            "official parts include 'test'; expected one of: train, query, database",
        ),
        (np.array(["train", "query"]), r"official parts have shape \(2,\); expected \(3,\)"),
        (np.array(["query", "query", "database"]), "no official train part"),
        (np.array(["train", "train", "database"]), "no official query part"),
    ],
)
def test_official_parts_refused(official, message):
    with pytest.raises(InvalidInputError, match=message):
        Official().split(3, None, official, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FiveWay(train=-1), r"protocol\.train=-1; expected a whole number"),
        (lambda: FiveWay(database="all"), r"protocol\.database='all'; expected"),
        (lambda: QueryDatabase(queries=0), r"protocol\.queries=0; expected"),
        (lambda: QueryDatabase(train="all"), r"protocol\.train='all'; expected.*'rest', 'database'"),
        (lambda: QueryDatabase(search_train=False), r"protocol\.search_train=true, or .*protocol\.train=5000"),
        (lambda: QueryDatabase(train="rest"), r"protocol\.train=rest leaves no other items.*protocol\.train=database"),
        (lambda: QueryDatabase(validation_queries=5), r"protocol\.validation_database=0; a validation part needs both"),
        (lambda: Official(validation_database=5), r"protocol\.validation_queries=0; a validation part needs both"),
        (lambda: Official(validation_queries=-5), r"protocol\.validation_queries=-5; expected"),
        (lambda: Official(train=1.5), r"protocol\.train=1\.5; expected"),
    ],
)
def test_settings_refused_before_data_load(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_every_protocol_and_truth_is_documented():
    page = (CONF.parents[1] / "docs" / "protocols.md").read_text(encoding="utf-8")
    for path in CONF.glob("*.yaml"):
        assert f"**`{path.stem}`**" in page
    for path in (CONF.parent / "truth").glob("*.yaml"):
        assert f"**`truth={path.stem}`**" in page
