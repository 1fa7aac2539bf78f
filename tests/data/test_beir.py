"""Text collections with judgements: from files in the layout of BEIR to scores of codes and of float vectors."""

import json

import numpy as np
import pytest
import torch

from deephash.affinity import Judgements
from deephash.command_line.programs.train import train
from deephash.data.beir import BEIR, read_judgements, read_texts
from deephash.data.protocols.official import Official
from deephash.data.text_descriptors.hashed_words import HashedWords
from deephash.evaluation import FittedTruth
from deephash.validation import InvalidInputError

TOPICS = ("apples pears plums", "trains rails stations", "rain snow wind", "kings queens castles")


def write_lines(path, rows):
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def collection(tmp_path):
    """Twenty passages of four topics; each query is judged against the five passages of its topic, one of grade 2."""
    folder = tmp_path / "collection"
    (folder / "qrels").mkdir(parents=True)
    passages = [
        {"_id": f"p{i}", "title": f"number {i}", "text": f"{TOPICS[i % 4]} {'much ' * (i // 4)}"} for i in range(20)
    ]
    write_lines(folder / "corpus.jsonl", map(json.dumps, passages))
    queries = [{"_id": f"q{i}", "text": f"{TOPICS[i % 4].split()[i % 3]} question {i}"} for i in range(24)]
    write_lines(folder / "queries.jsonl", map(json.dumps, queries))
    for name, numbers in (("train", range(12)), ("dev", range(12, 16)), ("test", range(16, 23))):
        judged = [f"q{q}\tp{p}\t{2 if p < 4 else int(p < 16)}" for q in numbers for p in range(20) if p % 4 == q % 4]
        write_lines(folder / "qrels" / f"{name}.tsv", ["query-id\tcorpus-id\tscore", *judged])
    return folder


def build(folder, **settings):
    return BEIR(Official(), path=str(folder), text_descriptor=HashedWords(64), **settings)


def test_passages_are_searched_and_judged_queries_search(collection):
    data = build(collection)
    data.setup()
    items = data.items
    assert items.texts[1] == "number 1 trains rails stations "
    assert items.texts[20 + 13] == "rails question 13"
    assert {role: len(data.ids(role)) for role in ("train", "query", "database")} == {
        "train": 20,
        "query": 7,
        "database": 20,
    }
    assert len(items) == 20 + 23  # q23 has no judgements
    assert data.part("query").ids.tolist() == list(range(20 + 16, 20 + 23))
    relevance = FittedTruth(Judgements(), data).relevance_of_roles("query", "database")
    # q16 is of the first topic; passage 16 has score 0.
    assert relevance.ids[: relevance.offsets[1]].tolist() == [0, 4, 8, 12]
    assert relevance.grades[: relevance.offsets[1]].tolist() == [2, 1, 1, 1]
    assert relevance.highest_grade == 2


def test_validation_queries_search_the_whole_database(collection):
    data = build(collection)
    data.setup()
    assert data.has_validation
    assert data.held_out == 0
    assert data.part("validation_query").ids.tolist() == list(range(32, 36))
    assert len(data.part("validation_database")) == 20
    pairs = data.get_training_pairs()
    assert pairs.queries.unique().tolist() == list(range(20, 32))
    (collection / "qrels" / "dev.tsv").unlink()
    data = build(collection)
    data.setup()
    assert not data.has_validation
    data.hold_out(0.25)
    held = data.part("validation_query").ids
    assert data.has_validation
    assert data.held_out == 3
    assert sorted(data.get_training_pairs().queries.unique().tolist() + held.tolist()) == list(range(20, 32))
    with pytest.raises(InvalidInputError, match=r"train.holdout=0.01 of 12 training queries leaves 0"):
        data.hold_out(0.01)


def test_prefixes_and_a_missing_title(collection):
    write_lines(collection / "corpus.jsonl", [json.dumps({"_id": f"p{i}", "text": TOPICS[i % 4]}) for i in range(20)])
    plain, changed = build(collection), build(collection, query_prefix="kings ", passage_prefix="")
    plain.setup()
    changed.setup()
    assert plain.items.texts[:2] == TOPICS[:2]
    assert torch.equal(plain.items.features[:20], changed.items.features[:20])
    assert not torch.equal(plain.items.features[20:], changed.items.features[20:])
    assert plain.items.digests["features"] != changed.items.digests["features"]
    assert plain.items.digests["judgements"] == changed.items.digests["judgements"]


WRONG = [
    ("corpus.jsonl", None, r"corpus.jsonl.* does not exist; give a folder with corpus.jsonl, queries.jsonl and qrels"),
    ("qrels/test.tsv", None, r"test.tsv.* does not exist; give a folder"),
    (
        "corpus.jsonl",
        '{"_id": "p0", "text": "a"}\n{"_id": "p0", "text": "b"}',
        r"line 2, has the _id 'p0' a second time",
    ),
    (
        "corpus.jsonl",
        '{"_id": 3, "text": "a"}',
        r"line 1, has the fields _id, text; expected strings _id and title and",
    ),
    ("queries.jsonl", '{"_id": "q0"}', r"line 1, has the fields _id; expected strings _id and text"),
    ("queries.jsonl", "q0", r"line 1, is not JSON"),
    ("queries.jsonl", "[1]", r"line 1, is not a JSON object"),
    ("queries.jsonl", "", r"queries.jsonl is empty"),
    ("qrels/test.tsv", "q16\tp99\t1", r"judges the passage 'p99', which is not in corpus.jsonl"),
    (
        "qrels/test.tsv",
        "query-id\tcorpus-id\tscore\nq99\tp0\t1",
        r"judges the query 'q99', which is not in queries.jsonl",
    ),
    ("qrels/test.tsv", "q16\tp0\t1\nq16 p0 1", r"line 2, is \['q16 p0 1'\]; expected query-id, corpus-id, score"),
    (
        "qrels/test.tsv",
        "q16\tp0\t1\nq16\tp0\t.5",
        r"line 2, is .*; expected query-id, corpus-id, score, separated by tabs",
    ),
    ("qrels/test.tsv", "q16\tp0\t1\nq16\tp0\t2", r"line 2, judges query 'q16' and passage 'p0' again, with another"),
    ("qrels/test.tsv", "q0\tp0\t1", r"query 'q0' is in qrels/train.tsv and in qrels/test.tsv"),
    ("qrels/test.tsv", "query-id\tcorpus-id\tscore", r"test.tsv has no judgements"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG)
def test_malformed_files_are_one_line(name, content, message, collection):
    if content is None:
        (collection / name).unlink()
    else:
        write_lines(collection / name, [content])
    with pytest.raises(InvalidInputError, match=message) as caught:
        build(collection).load()
    assert "\n" not in str(caught.value)


def test_other_data_have_no_judgements_and_another_protocol_no_judged_queries(collection, compose_config, tmp_path):
    words = ("data.text_descriptor={_target_: deephash.data.text_descriptors.HashedWords, dimension: 64}",)
    given = ("data=beir", f"data.path={collection}", "bits=16", "figures=false")
    config = compose_config(
        *given, "protocol=literature", "protocol.queries=4", "~data.text_descriptor", f"+{words[0]}"
    )
    with pytest.raises(InvalidInputError, match=r"of 4 queries of the split are passages, which .*protocol=official"):
        train(config, tmp_path / "drawn")
    with pytest.raises(InvalidInputError, match=r"truth=judgements needs judgements of relevance, and these data have"):
        train(compose_config("truth=judgements", "bits=16"), tmp_path / "digits")


def test_a_run_reports_codes_and_float_vectors(collection, compose_config, tmp_path):
    """TREC's measures, on the rankings of codes and of vectors that a run reports."""
    measures = pytest.importorskip("ir_measures")
    words = "+data.text_descriptor={_target_: deephash.data.text_descriptors.HashedWords, dimension: 64}"
    config = compose_config(
        "data=beir", f"data.path={collection}", "~data.text_descriptor", words, "method=pcah", "bits=12"
    )
    result = train(config, tmp_path / "run")
    references = result.row["references"]
    assert list(references) == ["codes", "float_query", "vectors"]
    # Depths fit the 20 passages.
    assert references["codes"] == {"nDCG@10": result.row["metrics"]["nDCG_graded@10"]}
    assert result.row["truth"] == "judgements"
    assert "question" in (tmp_path / "run" / "neighbours.html").read_text()

    data = build(collection)
    data.setup()
    queries, passages = data.part("query"), data.part("database")
    scores = torch.nn.functional.normalize(queries.features) @ torch.nn.functional.normalize(passages.features).T
    # A run breaks ties of equal scores by id, so scores are made distinct as `topk` orders them.
    order = scores.topk(20).indices
    run = [
        measures.ScoredDoc(str(q), str(int(p)), float(20 - rank))
        for q, row in enumerate(order)
        for rank, p in enumerate(row)
    ]
    relevance = FittedTruth(Judgements(), data).relevance_of_roles("query", "database")
    qrels = [
        measures.Qrel(str(q), str(int(p)), int(grade))
        for q in range(len(queries))
        for p, grade in zip(
            relevance.ids[relevance.offsets[q] : relevance.offsets[q + 1]],
            relevance.grades[relevance.offsets[q] : relevance.offsets[q + 1]],
            strict=True,
        )
    ]
    theirs = measures.calc_aggregate([measures.nDCG @ 10, measures.R @ 100], qrels, run)
    assert references["vectors"]["nDCG@10"] == pytest.approx(theirs[measures.nDCG @ 10], abs=1e-9)
    assert references["vectors"]["recall@100"] == pytest.approx(theirs[measures.R @ 100], abs=1e-9)
    assert np.isfinite(references["float_query"]["nDCG@10"])


def test_unusual_lines_are_read_or_refused(tmp_path):
    file = tmp_path / "lines"
    file.write_bytes(b"\xef\xbb\xbf\r\nquery-id\tcorpus-id\tscore\r\nq 1\tp 1\t2\r\n\r\nq 1\tp 2\t-1\r\n")
    assert read_judgements(file) == {("q 1", "p 1"): 2, ("q 1", "p 2"): -1}
    file.write_text("query-id\tcorpus-id\tscore\nq\tp\t1e30\n")
    with pytest.raises(InvalidInputError, match="line 2"):
        read_judgements(file)
    for line, message in (
        ('{"_id": 1, "text": "numbers"}', "expected strings _id and text"),
        (r'{"_id": "1", "text": "half \ud800"}', "line 1, is not JSON .*surrogates not allowed"),
        ("[" * 100_000, "line 1, is not JSON"),
    ):
        file.write_text(line)
        with pytest.raises(InvalidInputError, match=message):
            read_texts(file, ("text",))
