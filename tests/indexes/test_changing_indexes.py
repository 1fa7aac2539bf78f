"""Indexes whose items are added, changed and removed: every search equals a scan of a plain list of the items."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import numpy as np
import polars
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from item_list import NAMINGS, ItemList

import deephash
from deephash.indexes import allowed_search, changing_items, mih, multi_index_kernels
from deephash.indexes.build_index import index_class, index_kinds
from deephash.indexes.mih import MIH
from deephash.ranking import numba_engine, numba_layout, numba_search
from deephash.ranking.numba_engine import NumbaEngine
from deephash.validation import InvalidInputError

OWN = ["flat", "mih", "gpu"]
# Two segments, as on two devices.
SETTINGS = {"gpu": {"device": ["cpu", "cpu"]}}
CHANGEABLE = [kind for kind in index_kinds() if index_class(kind).takes_changes]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """Merge and compact at sizes that a test reaches."""
    monkeypatch.setattr(changing_items, "MIN_REMOVED", 6)
    monkeypatch.setattr(mih, "MIN_LATE", 12)


OPERATIONS = ["add", "add", "remove", "update", "remove_most", "compact", "reload"]


CHANGES = {
    "operations": st.lists(st.sampled_from(OPERATIONS), max_size=12),
    "naming": st.sampled_from(NAMINGS),
    "bits": st.sampled_from([7, 16, 64, 100]),
    "rows": st.integers(1, 40),
    "seed": st.integers(0, 2**32 - 1),
}


def change_and_check(kind, operations, naming, bits, rows, seed, new_folder, **more):
    model = ItemList(kind, naming, bits, np.random.default_rng(seed), rows, **more)
    model.check()
    for operation in operations:
        getattr(model, operation)(*((new_folder(),) if operation == "reload" else ()))
        model.check()


@settings(max_examples=60, deadline=None)
@given(patience=st.sampled_from([1.0, 1e9]), **CHANGES)
def test_any_changes_of_tables(patience, tmp_path_factory, **changes):
    change_and_check("mih", **changes, new_folder=lambda: tmp_path_factory.mktemp("index"), patience=patience)


@settings(max_examples=60, deadline=None)
@given(
    engine=st.sampled_from([None, NumbaEngine(1)]),
    form=st.sampled_from(["words", "rows"]),
    part=st.sampled_from([16, numba_engine.PART]),
    **CHANGES,
)
def test_any_changes_of_a_scan(engine, form, part, tmp_path_factory, **changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_layout, "FEW_FORM", form)
        patch.setattr(numba_engine, "PART", part)
        change_and_check("flat", **changes, new_folder=lambda: tmp_path_factory.mktemp("index"), engine=engine)


@settings(max_examples=8, deadline=None)
@given(**CHANGES)
def test_any_changes_of_codes_on_devices(tmp_path_factory, **changes):
    more = SETTINGS["gpu"]
    change_and_check("gpu", **changes, new_folder=lambda: tmp_path_factory.mktemp("index"), **more)


@pytest.mark.parametrize("kind", [kind for kind in CHANGEABLE if kind not in OWN])
@pytest.mark.parametrize("naming", NAMINGS)
def test_engines_change(kind, naming, tmp_path):
    if kind == "usearch":
        pytest.importorskip("usearch")
    exact = {"approximate": False} if kind == "usearch" else {}
    model = ItemList(kind, naming, 64, np.random.default_rng(3), 40, **exact)
    for operation in ("add", "remove", "update", "add", "remove_most", "add", "reload", "remove", "compact", "add"):
        getattr(model, operation)(*((tmp_path,) if operation == "reload" else ()))
        if model.index.exact:
            model.check(any_tie=True, radius=kind == "faiss_flat")
        elif model.items:
            codes = np.array([item[2] for item in model.items])
            distances, ids = model.index.search(codes, 1)
            found = ids[:, 0].tolist()
            assert set(found) <= {-1, *(item[0] for item in model.items)}, "no removed item is found"
            assert (distances == 0).double().mean() > 0.9


@pytest.mark.parametrize("kind", [kind for kind in index_kinds() if kind not in CHANGEABLE])
def test_databases_take_no_changes_but_filters(kind, build, clustered_codes):
    codes = clustered_codes(60, 64, 0)
    index = build(kind, codes, 64, names=[f"n{row}" for row in range(60)], columns={"price": range(60)})
    for change in (lambda: index.add(codes, names=range(60)), lambda: index.remove(["n3"]), index.compact):
        with pytest.raises(InvalidInputError, match=f"kind={kind} takes no changes"):
            change()
    near = index.search(codes[:1], 60)[1][0].tolist()
    below = [row for row in near if row < 30]
    by_name = index.search(codes[:1], 31, where=[f"n{row}" for row in below])[1][0].tolist()
    by_price = index.search(codes[:1], 31, where="price < 30")[1][0].tolist()
    assert by_name == by_price
    assert sorted(by_price) == [-1, *range(30)]
    with pytest.raises(InvalidInputError, match=r"where='colour < 3' is not a condition"):
        index.search(codes[:1], 3, where="colour < 3")


@pytest.mark.parametrize("kind", OWN)
def test_a_removed_cluster_hides_no_neighbour(kind, clustered_codes):
    """More neighbours than are searched for beyond k are removed; a filter selects other clusters alone."""
    codes = torch.cat([torch.zeros(500, 8, dtype=torch.uint8), clustered_codes(1500, 64, 1)])
    index = deephash.index(codes, kind, **SETTINGS.get(kind, {}))
    index.remove(range(3, 500))
    expected = deephash.index(torch.cat([codes[:3], codes[500:]]), "flat").search(codes[:1], 6)[0]
    assert torch.equal(index.search(codes[:1], 6)[0], expected)
    mask = torch.ones(len(index), dtype=torch.bool)
    mask[:3] = False
    near = index.search(codes[:1], 6, where=mask)[1]
    assert (near >= 500).all()
    assert allowed_search.MORE - 3 < 6


@pytest.mark.parametrize("kind", OWN)
def test_an_empty_index_takes_items_again(kind, clustered_codes, tmp_path):
    codes = clustered_codes(5, 64, 0)
    index = deephash.index(codes, kind, names=list("abcde"), **SETTINGS.get(kind, {}))
    index.remove(list("abcde"))
    assert len(index) == 0
    assert index.within(codes, 64).ids.tolist() == []
    assert index.names.tolist() == []
    with pytest.raises(InvalidInputError, match="k=1 exceeds the 0 items"):
        index.search(codes, 1)
    for refused in (index.compact, lambda: index.save(tmp_path / "a")):
        with pytest.raises(InvalidInputError, match="all items have been removed; add some first"):
            refused()
    assert index.add(codes[:2], names=["a", "f"]).tolist() == [5, 6]
    assert index.named(index.search(codes[:1], 1)[1]).tolist() == [["a"]]


@pytest.mark.parametrize("kind", ["flat", "mih"])
def test_searches_go_on_while_an_index_is_built_again(kind, monkeypatch, clustered_codes):
    codes = clustered_codes(90, 64, 0)
    index = deephash.index(codes[:60], kind, names=np.arange(60))
    index.guard, found = Lock(), []
    renumber = type(index)._renumber

    def search_meanwhile(fresh, new_rows):
        renumber(fresh, new_rows)
        with index.guard:
            found.append(index.search(codes[50:70], 4))

    monkeypatch.setattr(type(index), "_renumber", search_meanwhile)
    index.add(codes[60:], names=np.arange(60, 90))
    compared = len(found)
    for first in range(0, 40, 4):
        index.remove(np.arange(first, first + 4))
        for distances, ids in found[compared:]:
            after = index.search(codes[50:70], 4)
            assert torch.equal(distances, after[0])
            assert torch.equal(ids, after[1])
        compared = len(found)
    assert compared > 3
    assert index.items.rows < 60


@pytest.mark.parametrize("kind", ["flat", "mih"])
def test_threads_find_what_no_change_concerns(kind, clustered_codes):
    """One thread adds, removes and so rebuilds, while another searches for items that stay."""
    codes = clustered_codes(3000, 64, 0)
    index = deephash.index(codes[:400], kind)
    index.guard, ended = Lock(), Event()
    expected = MIH(codes[:100], 64).search(codes[:100], 1)[1]

    def change():
        for first in range(400, 3000, 10):
            index.remove(index.add(codes[first : first + 10]))
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        changes = pool.submit(change)
        searches = 0
        while not (ended.is_set() or changes.done()) or not searches:
            with index.guard:
                distances, ids = index.search(codes[:100], 1)
            assert (distances == 0).all()
            assert torch.equal(ids, expected)
            searches += 1
        changes.result()
    assert index.ids.tolist() == list(range(400))


@pytest.mark.parametrize("kind", ["flat", "mih"])
def test_masks_of_any_kind_need_no_other_kernel(kind, clustered_codes):
    """A kernel is compiled for each kind of array, which takes seconds."""
    codes = clustered_codes(300, 64, 0)
    settings = {"engine": NumbaEngine()} if kind == "flat" else {}
    index = deephash.index(codes, kind, **settings)
    mask = np.arange(300) % 5 > 0
    kernel = numba_search.search_nearest if kind == "flat" else multi_index_kernels.nearest_kernel(1)
    expected = index.search(codes[:9], 5, where=mask)
    index.search(codes[:2], 5, where=mask)  # Few queries have a layout of their own.
    compiled = len(kernel.signatures)
    fixed = mask.copy()
    fixed.flags.writeable = False
    for where in (fixed, np.repeat(mask, 2)[::2], torch.from_numpy(mask), mask.tolist()):
        for queries in (codes[:9], codes[:2]):
            assert torch.equal(index.search(queries, 5, where=where)[1], expected[1][: len(queries)])
    assert len(kernel.signatures) == compiled


def test_refused_changes_change_nothing(clustered_codes):
    codes = clustered_codes(6, 64, 0)
    named = deephash.index(codes, "mih", names=list("abcdef"), columns={"price": range(6)})
    nameless = deephash.index(codes, "flat")
    two = {"price": [1, 2]}
    cases = [
        (lambda: named.add(codes[:2], columns=two), "the index has names; give names="),
        (lambda: named.add(codes[:2], ["g", "g"], two), "names contain 'g' twice"),
        (lambda: named.add(codes[:2], ["g", "a"], two), "contains 'a' already; update it, or remove it first"),
        (lambda: named.add(codes[:2], [1, 2], two), "names of the index are words, and these are whole numbers"),
        (lambda: named.add(codes[:2], ["g"], two), "names are .*expected a whole number or a word for each of the 2"),
        (lambda: named.add(codes[:2], ["g", "h"]), "the index has the columns price; give columns="),
        (lambda: named.add(codes[:2], ["g", "h"], {"cost": [1, 2]}), "the columns are cost; expected price"),
        (lambda: named.add(codes[:2], ["g", "h"], {"price": ["x", "y"]}), "not of the types of the index"),
        (lambda: named.add(codes[:2, :4], ["g", "h"], two), "codes have shape"),
        (lambda: named.add(codes[0], ["g"], two), r"codes are \(8,\); expected packed codes"),
        (lambda: named.remove(["a", "z", "y"]), "contain 'z' and 1 more that the index does not contain"),
        (lambda: named.remove(["a", "a"]), "contain 'a' twice"),
        (lambda: named.update(codes[:2], ["a", "z"], two), "contain 'z' that the index does not contain"),
        (lambda: named.update(codes[:2], ["a"], two), "there are 1 names and 2 codes"),
        (lambda: nameless.add(codes, list("abcdef")), "the index has no names, and its items are called by their ids"),
        (lambda: nameless.add(codes, columns={"price": range(6)}), "the index has no columns"),
        (lambda: nameless.remove(["a"]), "call its items by their ids"),
        (lambda: nameless.remove([6]), "contain 6 that the index does not contain"),
        (lambda: nameless.remove([1.5]), "expected a whole number or a word"),
        (lambda: nameless.search(codes, 1, where=[True]), r"mask of shape \(1,\); expected \(6,\)"),
        (lambda: nameless.search(codes, 1, where=[7]), "names of where contain 7"),
        (lambda: nameless.search(codes, 1, where="price < 3"), "is not a condition on id "),
        (lambda: named.search(codes, 1, where="price"), "is not a condition on id, name, price "),
        (lambda: named.search(codes, 1, where="price <"), "is not a condition"),
        (lambda: named.search(codes, 1, where="x" * 10_001), "where has 10001 characters"),
    ]
    for refused, message in cases:
        with pytest.raises(InvalidInputError, match=message) as error:
            refused()
        assert "\n" not in str(error.value)
    assert named.names.tolist() == list("abcdef")
    assert (len(nameless), nameless.items.next_id) == (6, 6)
    assert named.search(codes, 1)[1][:, 0].tolist() == nameless.search(codes, 1)[1][:, 0].tolist()


def test_items_without_values_of_a_column_are_added(clustered_codes):
    codes = clustered_codes(6, 64, 0)
    index = deephash.index(codes[:4], "flat", columns={"price": range(4), "colour": list("abcd")})
    index.add(codes[:0], columns={"price": [], "colour": []})
    index.add(codes[4:], columns={"colour": [None, None], "price": [4, None]})
    assert index.search(codes[:1], 3, where="colour IS NULL")[1].sort().values.tolist() == [[-1, 4, 5]]


def test_repeated_names_are_searched_but_not_changed(clustered_codes):
    codes = clustered_codes(4, 64, 0)
    index = deephash.index(codes, "flat", names=list("abca"))
    assert index.named(index.search(codes[3:], 1)[1]).size == 1
    with pytest.raises(InvalidInputError, match="several items of the index are named 'a'"):
        index.remove(["b"])


def test_a_mask_or_a_condition_without_matches_finds_nothing(clustered_codes):
    codes = clustered_codes(9, 64, 0)
    index = deephash.index(codes, "mih", columns={"price": [None, *range(8)]})
    for where in (np.zeros(9, bool), "price > 99", [], "price IS NULL AND price > 1"):
        distances, ids = index.search(codes[:2], 3, where=where)
        assert (ids == -1).all()
        assert (distances == 65).all()
    assert index.search(codes[:1], 9, where="price IS NULL")[1][0].tolist() == [0] + [-1] * 8
    assert index.search(codes[:1], 9, where="true")[1].sort().values.tolist() == [list(range(9))]


def test_lists_of_later_codes_are_visited_and_merged(monkeypatch, clustered_codes):
    monkeypatch.setattr(mih, "MIN_LATE", 4000)
    codes, more = clustered_codes(8000, 64, 1), clustered_codes(8000, 64, 2)
    index = MIH(codes, 64)
    sizes = []
    for start in range(0, 8000, 500):
        index.add(more[start : start + 500])
        sizes.append(index._late.size)
    assert max(sizes) >= 3500
    assert sizes[-1] < 4500, "the lists were merged into the tables"
    together = torch.cat([codes, more])
    fresh = MIH(together, 64)
    queries = torch.cat([more[-30:], clustered_codes(10, 64, 3)])
    for found, expected in zip(index.search(queries, 7), fresh.search(queries, 7), strict=True):
        assert torch.equal(found, expected)
    near = index.search(more[-30:], 1)
    assert (near[0] == 0).all()
    assert np.median(index.looked_at.sum(1)) < 16_000 / 4, "the tables answer, not a scan"


def test_values_that_a_column_does_not_hold_are_refused(clustered_codes):
    codes = clustered_codes(4, 64, 0)
    index = deephash.index(codes[:2], "flat", columns={"count": [1, 2], "new": [True, False], "price": [0.5, 1]})
    for changed, shown in (
        ({"count": [4.7]}, "'count' contains 4.7, which Int64 does not hold"),
        ({"new": [2]}, "'new' contains 2, which Boolean does not hold"),
        ({"price": [2**53 + 1]}, "'price' contains 9007199254740993, which Float64 does not hold"),
    ):
        with pytest.raises(InvalidInputError, match=shown):
            index.add(codes[2:3], columns={"count": [3], "new": [True], "price": [1]} | changed)
    index.add(codes[2:], columns={"count": [3.0, None], "new": [1, 0], "price": [3, None]})
    assert index.items.columns.rows()[2:] == [(3, True, 3.0), (None, False, None)]


def test_names_that_end_with_a_nul_are_refused(clustered_codes):
    codes = clustered_codes(4, 64, 0)
    index = deephash.index(codes[:2], "flat", names=["a", "b"])
    for refused in (
        lambda: index.add(codes[2:3], names=["c\0"]),
        lambda: index.remove(["a\0"]),
        lambda: index.search(codes, 1, where=["a\0"]),
        lambda: deephash.index(codes[:2], "flat", names=["a", "a\0"]),
    ):
        with pytest.raises(InvalidInputError, match="ends with a NUL; remove that character"):
            refused()
    index.add(codes[2:3], names=["c\0d"])
    assert index.names.tolist() == ["a", "b", "c\0d"]


ALLOWED = {
    "price < 3": [0, 1, 2],
    "NOT (price >= 1 AND price::int <> 2)": [0, 2],
    '"unit price" = 2 OR id IN (0, 4)': [0, 2, 4],
    "name LIKE 'n%' AND LOWER(name) ~ '[12]$'": [1, 2],
    "name = 'it''s'": [5],
    "ABS(price - 3.5) < 1 AND CASE WHEN price > 3 THEN true ELSE false END": [4],
    "price IS NULL OR COALESCE(price, 0) BETWEEN -1 AND 0": [0],
    "name NOT IN ('n0', 'select') AND CAST(price AS VARCHAR) = '4'": [4],
}
REFUSED = [
    "name IN (SELECT name FROM t)",
    "name IN (WITH t AS (SELECT 1))",
    "EXISTS (TABLE t)",
    "read_csv('x')",
    "\"read_csv\"('x')",
    "price < 1; DROP TABLE t",
    "price < 1 -- x",
    "price < 1 /* x */",
    "E'\\'' = name",
    "name = 'x\\' OR price > 1 OR name = ''",
    "name = $$x$$",
    "_row = 1",
    "COUNT(*) > 1",
    "ROW_NUMBER() OVER (ORDER BY price) < 3",
    "UNNEST(price) > 1",
    "select < 3",
    "from = 1",
    "price = 1e",
    "name || name = 'x'",
    "ABS(" * 33 + "price" + ")" * 33 + " > 1",
    "CASE WHEN " * 33 + "true" + " THEN true END" * 33,
]


def test_conditions_contain_comparisons_and_simple_functions_only(clustered_codes):
    codes = clustered_codes(6, 64, 0)
    columns = {"price": range(6), "unit price": range(6), "select": range(6), "from": range(6)}
    index = deephash.index(codes, "flat", names=[*(f"n{row}" for row in range(5)), "it's"], columns=columns)
    for text, expected in ALLOWED.items():
        assert sorted(set(index.search(codes[:1], 6, where=text)[1][0].tolist()) - {-1}) == expected, text
    assert sorted(index.search(codes[:1], 6, where='"select" < 6')[1][0].tolist()) == list(range(6))
    for text in REFUSED:
        with pytest.raises(
            InvalidInputError, match=r"^where(=.* is not a condition on .*\(it contains| has 33 nested)"
        ) as error:
            index.search(codes[:1], 1, where=text)
        assert "\n" not in str(error.value)


def test_dates_are_written_as_dates(clustered_codes):
    codes = clustered_codes(6, 64, 0)
    days = [datetime.date(2026, 1, day) for day in range(1, 7)]
    index = deephash.index(codes, "flat", columns={"day": days, "price": range(1, 7)})
    for text in ("day <= DATE '2026-01-02'", "day < CAST('2026-01-03' AS DATE)", "day < '2026-01-03'::date"):
        assert sorted(index.search(codes[:1], 2, where=text)[1][0].tolist()) == [0, 1], text
    with pytest.raises(InvalidInputError, match=r"write dates as DATE '2026-01-31'\.$"):
        index.search(codes[:1], 2, where="day = '2026-01-02'")
    for text in (
        "day > 20260103",
        "20260103 < day",
        "NOT (price = 2 OR day BETWEEN 1 AND 5.5)",
        "COALESCE(day, day) = 5",
        "price > DATE '2026-01-03'",
        polars.col("day") > 20260103,
    ):
        with pytest.raises(InvalidInputError, match=r"^where compares .+, a date or a time, with .+, a number; write"):
            index.search(codes[:1], 1, where=text)
    assert index.search(codes[:1], 6, where="DATE_PART('day', day) > 4 AND price < 6")[1].tolist()[0].count(-1) == 5


@pytest.mark.parametrize("kind", ["flat", "mih"])
def test_item_codes_are_those_of_the_names(kind, clustered_codes):
    codes = clustered_codes(9, 64, 0)
    index = deephash.index(codes[:8], kind, names=list("abcdefgh"))
    assert torch.equal(index.item_codes, codes[:8])
    index.remove(["b", "g"])
    index.update(codes[8:], ["a"])
    expected = codes[[2, 3, 4, 5, 7, 8]]
    assert index.names.tolist() == list("cdefha")
    assert torch.equal(index.item_codes, expected)
    index.compact()
    assert torch.equal(index.item_codes, expected)
