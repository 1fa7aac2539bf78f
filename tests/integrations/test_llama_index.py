"""LlamaIndex' vector store: nodes, filters, modes, persistence and real texts."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="needs pip install 'deephash[llama-index]'")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import ImageNode, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from deephash import ITQ, Hasher
from deephash.integrations.llama_index import HashedNodeStore
from deephash.validation import InvalidInputError

D = 16
ROWS = np.random.default_rng(0).normal(size=(100, D))
METADATA = {
    "a": {"page": 1, "tags": ["x", "y"], "title": "Über uns"},
    "b": {"page": 2, "tags": [], "title": "über ALLES", "draft": True},
    "c": {"page": 2.5, "tags": ["y", 7], "title": ""},
    "d": {"title": None},
}


def make_nodes():
    nodes = []
    for place, (name, metadata) in enumerate(METADATA.items()):
        source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc{place % 2}")}
        nodes.append(
            TextNode(
                id_=name,
                text=f"text of {name} 🦜",
                metadata=metadata,
                embedding=ROWS[place].tolist(),
                relationships=source,
            )
        )
    return nodes


@pytest.fixture(params=[False, True], ids=["exact", "fitted"])
def store(request):
    store = HashedNodeStore(hasher=Hasher(ITQ(D, D)).fit(ROWS) if request.param else None)
    assert store.add(make_nodes()) == list("abcd")
    return store


def ids_of(store, filters=None, **arguments):
    query = VectorStoreQuery(query_embedding=ROWS[0].tolist(), similarity_top_k=10, filters=filters, **arguments)
    return "".join(sorted(store.query(query).ids))


def test_nodes_come_back(store):
    result = store.query(VectorStoreQuery(query_embedding=ROWS[1].tolist(), similarity_top_k=2))
    assert (result.ids[0], result.similarities[0]) == ("b", pytest.approx(1))
    expected = make_nodes()[1].model_copy(update={"embedding": None})
    assert result.nodes[0] == expected
    assert store.get_nodes(["b", "zzz"]) == [expected]
    others = [
        IndexNode(id_="index", text="points", index_id="elsewhere", embedding=ROWS[5].tolist()),
        ImageNode(id_="image", text="caption", image_url="file:///x.png", embedding=ROWS[6].tolist()),
    ]
    asyncio.run(store.async_add(others))
    for node in others:
        (found,) = asyncio.run(store.aget_nodes([node.node_id]))
        assert type(found) is type(node)
        assert found == node.model_copy(update={"embedding": None})


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("==", 2, "b"),
        ("==", "2", ""),
        ("!=", 2, "acd"),
        (">", 1, "bc"),
        (">=", 2, "bc"),
        ("<", 2, "a"),
        ("<=", 2.0, "ab"),
        ("in", [1, 2], "ab"),
        ("nin", [1, 2], "cd"),
        ("is_empty", None, "d"),
    ],
)
def test_filters_of_numbers(store, operator, value, expected):
    filters = MetadataFilters(filters=[MetadataFilter(key="page", value=value, operator=FilterOperator(operator))])
    assert ids_of(store, filters) == expected
    assert "".join(node.node_id for node in store.get_nodes(filters=filters)) == expected
    store.delete_nodes(filters=filters)
    assert ids_of(store) == "".join(sorted(set("abcd") - set(expected)))


@pytest.mark.parametrize(
    ("key", "operator", "value", "expected"),
    [
        ("tags", "contains", "y", "ac"),
        ("tags", "contains", 7, "c"),
        ("tags", "any", ["x", "z"], "a"),
        ("tags", "all", ["x", "y"], "a"),
        ("tags", "is_empty", None, "bd"),
        ("title", "text_match", "ber", "ab"),
        ("title", "text_match", "Über", "a"),
        ("title", "text_match_insensitive", "ÜBER all", "b"),
        ("title", "is_empty", None, "cd"),
        ("doc_id", "==", "doc1", "bd"),
        ("ref_doc_id", "in", ["doc0"], "ac"),
    ],
)
def test_filters_of_texts_and_lists(store, key, operator, value, expected):
    filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))])
    assert ids_of(store, filters) == expected


def test_conditions_and_ids(store):
    one, two = MetadataFilter(key="page", value=1), MetadataFilter(key="page", value=2)
    assert ids_of(store, MetadataFilters(filters=[one, two])) == ""
    assert ids_of(store, MetadataFilters(filters=[one, two], condition=FilterCondition.OR)) == "ab"
    assert ids_of(store, MetadataFilters(filters=[one, two], condition=FilterCondition.NOT)) == "cd"
    nested = MetadataFilters(filters=[one, two], condition=FilterCondition.OR)
    title = MetadataFilter(key="title", value="uns", operator=FilterOperator.TEXT_MATCH)
    assert ids_of(store, MetadataFilters(filters=[nested, title])) == "a"
    assert ids_of(store, MetadataFilters(filters=[])) == "abcd"
    assert ids_of(store, node_ids=["a", "d", "zzz"]) == "ad"
    assert ids_of(store, node_ids=[], doc_ids=[]) == "abcd"
    assert store.get_nodes([]) == []
    assert ids_of(store, doc_ids=["doc1"]) == "bd"
    assert ids_of(store, MetadataFilters(filters=[two]), doc_ids=["doc1"]) == "b"
    for operator, value in (("in", "a"), ("text_match", 1), (">", None)):
        wrong = MetadataFilter(key="page", value=value, operator=FilterOperator(operator))
        with pytest.raises(InvalidInputError):
            ids_of(store, MetadataFilters(filters=[wrong]))


def test_deletions(store):
    store.delete("doc0")
    store.delete("unknown")
    assert ids_of(store) == "bd"
    store.delete_nodes()
    store.delete_nodes([])
    assert ids_of(store) == "bd"
    asyncio.run(store.adelete_nodes(["b", "zzz"]))
    assert ids_of(store) == "d"
    store.add(make_nodes()[3:])
    assert ids_of(store) == "d"
    asyncio.run(store.aclear())
    assert ids_of(store) == ""
    asyncio.run(store.adelete("doc1"))


def test_modes(store):
    for number in range(3):
        store.add([TextNode(id_=f"copy{number}", text="copy", embedding=ROWS[0].tolist())])
    query = VectorStoreQuery(
        query_embedding=ROWS[0].tolist(), similarity_top_k=2, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.2
    )
    for result in (store.query(query), asyncio.run(store.aquery(query))):
        assert len(result.ids) == 2
        assert not {"a", "copy0", "copy1", "copy2"} >= set(result.ids)
    assert HashedNodeStore().query(query).ids == []
    with pytest.raises(InvalidInputError, match="no index of words"):
        store.query(VectorStoreQuery(query_embedding=ROWS[0].tolist(), mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(InvalidInputError, match="no embedding"):
        store.query(VectorStoreQuery(query_str="text"))
    with pytest.raises(InvalidInputError, match="'n' has no embedding"):
        store.add([TextNode(id_="n", text="n")])


def test_described_saved_and_opened_again(tmp_path):
    store = HashedNodeStore(tmp_path / "store", bits=8, fit_at=4)
    store.add(make_nodes())
    store.save(tmp_path / "copy")
    described = store.to_dict()
    assert described["class_name"] == "HashedNodeStore"
    before = ids_of(store)
    store.close()
    again = HashedNodeStore.from_dict(described)
    assert (ids_of(again), again.settings) == (before, {"bits": 8, "fit_at": 4})
    again.close()
    copy = HashedNodeStore(tmp_path / "copy")
    assert ids_of(copy) == before
    assert copy.client.folder == tmp_path / "copy"
    copy.close()


class MiniLM(BaseEmbedding):
    """A model of sentence-transformers."""

    _model: object = None

    def __init__(self, path):
        super().__init__()
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(path, device="cpu")

    def _get_text_embedding(self, text):
        return self._model.encode(text).tolist()

    def _get_query_embedding(self, query):
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)


def test_real_texts_in_an_index(minilm, verses, tmp_path):
    """An index over the store, built, searched, and opened again without other storage."""
    store = HashedNodeStore(tmp_path, bits=64, fit_at=100)
    nodes = [TextNode(text=verse, metadata={"verse": number}) for number, verse in enumerate(verses)]
    model = MiniLM(minilm)
    VectorStoreIndex(nodes, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=model)
    assert store.client.hasher.bits == 64
    store.close()
    store = HashedNodeStore(tmp_path)
    index = VectorStoreIndex.from_vector_store(store, embed_model=model)
    (found,) = index.as_retriever(similarity_top_k=1).retrieve("Cain killed his brother")
    assert "Cain" in found.text
    assert 0 < found.score < 1
    store.close()
