"""Haystack's document store: Haystack's own suites, the retriever in a pipeline, and its filters of dates."""

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest

pytest.importorskip("haystack", reason="needs pip install 'deephash[haystack]'")

from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.testing import document_store as suites
from haystack.testing import document_store_async as async_suites

from deephash import ITQ, Hasher
from deephash.integrations.haystack import HashedDocumentStore, HashedEmbeddingRetriever
from deephash.validation import InvalidInputError

SUITES = (
    suites.DocumentStoreBaseExtendedTests,
    suites.CountDocumentsByFilterTest,
    suites.CountUniqueMetadataByFilterTest,
    suites.GetMetadataFieldsInfoTest,
    suites.GetMetadataFieldMinMaxTest,
    suites.GetMetadataFieldUniqueValuesTest,
    async_suites.CountDocumentsAsyncTest,
    async_suites.CountDocumentsByFilterAsyncTest,
    async_suites.CountUniqueMetadataByFilterAsyncTest,
    async_suites.DeleteAllAsyncTest,
    async_suites.DeleteByFilterAsyncTest,
    async_suites.DeleteDocumentsAsyncTest,
    async_suites.FilterDocumentsAsyncTest,
    async_suites.GetMetadataFieldMinMaxAsyncTest,
    async_suites.GetMetadataFieldUniqueValuesAsyncTest,
    async_suites.GetMetadataFieldsInfoAsyncTest,
    async_suites.UpdateByFilterAsyncTest,
    async_suites.WriteDocumentsAsyncTest,
)


class TestSuites(*SUITES):
    """All suites of Haystack, of a store in a folder."""

    @pytest.fixture
    def document_store(self, tmp_path):
        store = HashedDocumentStore(tmp_path)
        yield store
        store.close()

    @staticmethod
    def assert_documents_are_equal(received, expected):
        """Embeddings are stored as float32, and the suites' are float64."""
        assert len(received) == len(expected)
        for one, other in zip(received, expected, strict=True):
            assert (one.embedding is None) == (other.embedding is None)
            if one.embedding is not None:
                assert one.embedding == pytest.approx(other.embedding, rel=1e-6)
            assert {**one.to_dict(), "embedding": None} == {**other.to_dict(), "embedding": None}

    def test_write_documents(self, document_store):
        """Without a policy, a duplicate is an error."""
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])

    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store):
        """The same in another thread."""
        document = Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])


def random_documents(count):
    rows = np.random.default_rng(0).normal(size=(count, 16))
    return [
        Document(id=f"d{row}", content=f"text {row}", meta={"row": row, "who": {"age": row}}, embedding=vector.tolist())
        for row, vector in enumerate(rows)
    ]


@pytest.mark.parametrize("fitted", [False, True])
def test_retriever(fitted):
    documents = random_documents(200)
    hasher = Hasher(ITQ(16, 16)).fit([document.embedding for document in documents]) if fitted else None
    store = HashedDocumentStore(hasher=hasher)
    store.write_documents([*documents, Document(content="without embedding")])
    retriever = HashedEmbeddingRetriever(store, top_k=3)
    found = retriever.run(documents[7].embedding)["documents"]
    assert [found[0].id, len(found)] == ["d7", 3]
    assert found[0].score == pytest.approx(1)
    assert found[0].embedding is None
    assert retriever.run(documents[7].embedding, top_k=0) == {"documents": []}
    (first,) = retriever.run(documents[7].embedding, top_k=1, return_embedding=True)["documents"]
    assert first.embedding == pytest.approx(documents[7].embedding, rel=1e-6)
    condition = {"field": "meta.who.age", "operator": "<", "value": 5}
    found = asyncio.run(retriever.run_async(documents[7].embedding, filters=condition, top_k=10))["documents"]
    assert sorted(document.id for document in found) == ["d0", "d1", "d2", "d3", "d4"]


def test_pipeline_saved_and_loaded(tmp_path):
    documents = random_documents(30)
    store = HashedDocumentStore(tmp_path / "store", bits=8, fit_at=20)
    store.write_documents(documents)
    assert store.documents.hasher.bits == 8
    pipeline = Pipeline()
    condition = {"field": "meta.row", "operator": ">=", "value": 10}
    retriever = HashedEmbeddingRetriever(store, condition, top_k=2, filter_policy=FilterPolicy.MERGE)
    pipeline.add_component("retriever", retriever)
    text = pipeline.dumps()
    expected = pipeline.run({"retriever": {"query_embedding": documents[3].embedding}})
    assert all(document.meta["row"] >= 10 for document in expected["retriever"]["documents"])
    store.close()
    loaded = Pipeline.loads(text, allowed_modules=["deephash"])
    assert loaded.run({"retriever": {"query_embedding": documents[3].embedding}}) == expected
    assert loaded.get_component("retriever").to_dict() == retriever.to_dict()
    loaded.get_component("retriever").document_store.close()
    in_memory = HashedDocumentStore(hasher=Hasher(ITQ(16, 8)).fit(np.random.default_rng(0).normal(size=(50, 16))))
    with pytest.raises(InvalidInputError, match="in memory"):
        in_memory.to_dict()
    assert HashedDocumentStore.from_dict(HashedDocumentStore(bits=8).to_dict()).settings == {"bits": 8}


def test_all_parts_of_a_document_come_back(tmp_path):
    document = Document(
        content=None,
        blob=ByteStream(b"\x00\xff", meta={"a": 1}, mime_type="image/png"),
        meta={"nested": [{"a": None}], "ü": "日本"},
        sparse_embedding=SparseEmbedding(indices=[1, 5], values=[0.5, 2.0]),
        score=0.25,
    )
    store = HashedDocumentStore(tmp_path)
    store.write_documents([document])
    assert store.filter_documents() == [document]
    store.close()
    store = HashedDocumentStore(tmp_path)
    assert store.filter_documents({"field": "id", "operator": "in", "value": [document.id]}) == [document]
    assert store.filter_documents({"field": "content", "operator": "==", "value": None}) == [document]
    assert store.filter_documents({"field": "content", "operator": "not in", "value": ["x", None]}) == []
    store.close()


def test_policies_within_one_list():
    one, other = Document(id="a", content="one"), Document(id="a", content="other")
    store = HashedDocumentStore()
    with pytest.raises(DuplicateDocumentError, match="'a'"):
        store.write_documents([one, other])
    assert store.count_documents() == 0
    assert store.write_documents([one, other], DuplicatePolicy.SKIP) == 1
    assert store.filter_documents()[0].content == "one"
    assert store.write_documents([one, other], DuplicatePolicy.OVERWRITE) == 2
    assert store.filter_documents()[0].content == "other"
    assert store.write_documents([]) == 0


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("==", "2025-02-03", "ab"),
        ("!=", "2025-02-03", "cde"),
        ("in", ["2025-02-03T00:00:00", 7], "abe"),
        ("not in", ["2025-02-03"], "cde"),
        (">", "2025-02-03", "c"),
        (">=", datetime(2025, 2, 3), "abc"),
        ("<", datetime(2025, 2, 4, tzinfo=UTC), "ab"),
        ("<=", "2025-02-03T01:00:00+01:00", "ab"),
    ],
)
def test_filters_of_dates(operator, value, expected):
    store = HashedDocumentStore()
    dates = {"a": "2025-02-03", "b": "2025-02-03T00:00:00", "c": "2025-02-04T12:00:00+02:00", "d": "no date", "e": 7}
    store.write_documents([Document(id=name, content=name, meta={"date": date}) for name, date in dates.items()])
    found = store.filter_documents({"field": "meta.date", "operator": operator, "value": value})
    assert "".join(document.id for document in found) == expected


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "embedding", "operator": "==", "value": 1},
        {"field": "meta.a", "operator": "~", "value": 1},
        {"field": "meta.a", "operator": ">", "value": "text"},
        {"field": "meta.a", "operator": "==", "value": {"a": 1}},
        {"field": 'meta.a"', "operator": "==", "value": 1},
        {"field": "content", "operator": ">", "value": "a"},
        {"operator": "XOR", "conditions": []},
        {"operator": "AND", "conditions": {}},
        {"operator": "AND", "conditions": ["a"]},
        ["a"],
    ],
)
def test_other_filters_are_filter_errors(filters):
    with pytest.raises(FilterError):
        HashedDocumentStore().filter_documents(filters)


def test_wrong_arguments():
    store = HashedDocumentStore()
    with pytest.raises(InvalidInputError, match="top_k=0"):
        HashedEmbeddingRetriever(store, top_k=0)
    with pytest.raises(InvalidInputError, match="expected a HashedDocumentStore"):
        HashedEmbeddingRetriever("store")
    store.write_documents([Document(content="a", embedding=[1.0, 2.0])])
    with pytest.raises(InvalidInputError, match="3 dimensions; expected 2"):
        store.write_documents([Document(content="b", embedding=[1.0, 2.0, 3.0])])
    with pytest.raises(InvalidInputError, match="k=-1"):
        store.embedding_retrieval([1.0, 2.0], top_k=-1)
