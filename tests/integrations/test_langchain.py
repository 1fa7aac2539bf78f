"""LangChain's vector store: LangChain's own standard tests, filters, persistence and real texts."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="needs pip install 'deephash[langchain]'")
pytest.importorskip("langchain_tests", reason="needs pip install langchain-tests")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from deephash import ITQ, Hasher
from deephash.integrations.langchain import HashedVectorStore
from deephash.validation import InvalidInputError


class TestInMemory(VectorStoreIntegrationTests):
    """Before a hasher is fitted."""

    @pytest.fixture
    def vectorstore(self):
        return HashedVectorStore(self.get_embeddings())


class TestOnDisk(VectorStoreIntegrationTests):
    """With a fitted hasher, in a folder."""

    @pytest.fixture
    def vectorstore(self, tmp_path):
        rows = np.random.default_rng(0).normal(size=(100, 6)).astype("float32")
        with HashedVectorStore(self.get_embeddings(), tmp_path, hasher=Hasher(ITQ(6, 6)).fit(rows)).documents as store:
            yield HashedVectorStore(self.get_embeddings(), tmp_path)
            assert store.hasher is not None


class TestCodesAlone(VectorStoreIntegrationTests):
    """Without stored embeddings."""

    @pytest.fixture
    def vectorstore(self):
        rows = np.random.default_rng(0).normal(size=(100, 6)).astype("float32")
        hasher = Hasher(ITQ(6, 6)).fit(rows)
        return HashedVectorStore(self.get_embeddings(), hasher=hasher, vectors="none")


@pytest.fixture
def store():
    store = HashedVectorStore(DeterministicFakeEmbedding(size=16))
    store.add_texts(
        ["a", "b", "c", "d"],
        [
            {"page": 1, "tags": ["x", "y"], "title": "Über uns", "draft": True},
            {"page": 2, "author": {"name": "Ann"}, "title": None},
            {"page": 2.5, "draft": False, "title": "über_alles"},
            {},
        ],
        ids=["a", "b", "c", "d"],
    )
    return store


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, "abcd"),
        ({"page": 2}, "b"),
        ({"page": 2.0}, "b"),
        ({"page": "2"}, ""),
        ({"draft": True}, "a"),
        ({"draft": 1}, ""),
        ({"draft": {"$ne": True}}, "bcd"),
        ({"title": None}, "bd"),
        ({"title": {"$exists": True}}, "abc"),
        ({"title": {"$exists": False}}, "d"),
        ({"page": {"$gt": 1, "$lte": 2.5}}, "bc"),
        ({"page": {"$between": [1, 2]}}, "ab"),
        ({"page": {"$in": [1, 2.5, "2", None]}}, "acd"),
        ({"page": {"$nin": [1, 2]}}, "cd"),
        ({"draft": {"$in": [False]}}, "c"),
        ({"tags": ["x", "y"]}, "a"),
        ({"tags": ["y", "x"]}, ""),
        ({"title": {"$like": "%ber%"}}, "ac"),
        ({"title": {"$like": "über_alles"}}, "c"),
        ({"title": {"$ilike": "Ü%"}}, "ac"),
        ({"title": {"$gte": "a"}}, "ac"),
        ({"missing": {"$gt": 0}}, ""),
        ({"$or": [{"page": 1}, {"$and": [{"page": 2}, {"title": None}]}]}, "ab"),
        ({"$not": {"page": {"$gt": 1}}}, "ad"),
        ({"$and": []}, "abcd"),
        ({"$or": []}, ""),
    ],
)
def test_filters(store, filter, expected):
    found = store.similarity_search("a", k=10, filter=filter)
    assert "".join(sorted(document.id for document in found)) == expected
    store.delete(filter=filter)
    left = {document.id for document in store.similarity_search("a", k=10)}
    assert left == set("abcd") - set(expected)


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        (lambda document: True, "filter is a function; expected a dict"),
        ({"page": {"$regex": "a"}}, "operator '\\$regex' for 'page'"),
        ({"page": {"name": "Ann"}}, "operator 'name'"),
        ({"$xor": []}, "operator \\$xor"),
        ({"$or": {"page": 1}}, "expected a list of filters"),
        ({"page": {"$in": 1}}, "expected a list"),
        ({"page": {"$gt": None}}, "give a number or a text"),
        ({"page": {"$gt": float("nan")}}, "nan; expected"),
        ({'pa"ge': 1}, "quotation marks"),
        ({1: 1}, "names the key 1"),
        ({"page": {"$exists": 1}}, "True or False"),
        ({"page": {"$between": [1]}}, "two values"),
        ({"title": {"$like": 1}}, "expected a text"),
        ({"page": object()}, "expected a text, a finite number"),
    ],
)
def test_other_filters_are_one_clear_error(store, filter, message):
    with pytest.raises(InvalidInputError, match=message):
        store.similarity_search("a", filter=filter)


def test_scores_and_relevances(store):
    (document, score), *others = store.similarity_search_with_score("b", k=4)
    assert document.id == "b"
    assert score == pytest.approx(1)
    assert [score for _, score in others] == sorted((score for _, score in others), reverse=True)
    relevant = store.similarity_search_with_relevance_scores("b", k=4)
    assert all(0 <= relevance <= 1 for _, relevance in relevant)
    assert store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.9}).invoke(
        "b"
    ) == [document]


def test_marginal_relevance_leaves_out_copies():
    store = HashedVectorStore(DeterministicFakeEmbedding(size=16))
    store.add_texts(["same", "same", "same", "other"], ids=["1", "2", "3", "4"])
    found = store.max_marginal_relevance_search("same", k=2, lambda_mult=0.3)
    assert {document.page_content for document in found} == {"same", "other"}
    again = asyncio.run(store.amax_marginal_relevance_search("same", k=2, lambda_mult=0.3))
    assert found == again
    assert HashedVectorStore(DeterministicFakeEmbedding(size=16)).max_marginal_relevance_search("same") == []


def test_saved_and_opened_again(store, tmp_path):
    store.save(tmp_path / "copy")
    store.save(tmp_path / "copy")
    before = store.similarity_search_with_score("b", k=4)
    copy = HashedVectorStore(store.embedding, tmp_path / "copy")
    assert copy.similarity_search_with_score("b", k=4) == before
    copy.add_texts(["new"], ids=["e"])
    copy.close()
    with pytest.raises(InvalidInputError, match="closed"):
        copy.similarity_search("b")
    again = HashedVectorStore(store.embedding, tmp_path / "copy")
    assert len(again.documents) == 5
    again.close()


def test_wrong_arguments(store):
    with pytest.raises(InvalidInputError, match="1 texts and 2 ids"):
        store.add_texts(["one"], ids=["1", "2"])
    with pytest.raises(InvalidInputError, match="2 texts and 1 metadatas"):
        store.add_texts(["one", "two"], [{}])
    with pytest.raises(InvalidInputError, match="no argument 'where'"):
        store.similarity_search("b", where={})
    with pytest.raises(InvalidInputError, match="k=0"):
        store.similarity_search("b", k=0)
    assert store.add_texts([]) == []


class MiniLM(Embeddings):
    """A model of sentence-transformers."""

    def __init__(self, path):
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(path, device="cpu")

    def embed_documents(self, texts):
        return self.model.encode(texts).tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


def test_real_texts(minilm, verses, tmp_path):
    """The addition that reaches `fit_at` fits the hasher; the same documents are found before and after."""
    embedding = MiniLM(minilm)
    store = HashedVectorStore(embedding, tmp_path / "verses", bits=64, fit_at=100)
    documents = [Document(verse, metadata={"verse": number}) for number, verse in enumerate(verses)]
    store.add_documents(documents[:99])
    assert store.documents.hasher is None
    before = store.similarity_search("Cain killed his brother", k=1)
    store.add_documents(documents[99:])
    assert store.documents.hasher.bits == 64
    assert store.similarity_search("Cain killed his brother", k=1) == before
    assert "Cain" in before[0].page_content
    (first,) = asyncio.run(store.asimilarity_search("the light", k=1, filter={"verse": {"$lt": 4}}))
    assert "light" in first.page_content
    store.close()
