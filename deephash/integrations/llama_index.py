"""LlamaIndex: a vector store that finds nodes by binary codes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deephash.hashers.hasher import Hasher
from deephash.integrations import metadata_condition
from deephash.integrations.document_table import Record
from deephash.integrations.framework_package import needing
from deephash.integrations.hashed_documents import HashedDocuments, Hit
from deephash.integrations.metadata_condition import ALWAYS, Condition, all_of, any_of, has_text, negate
from deephash.integrations.open_documents import open_documents
from deephash.validation import InvalidInputError

with needing("llama-index-core", "llama-index"):
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

PARENT_KEYS = ("document_id", "doc_id", "ref_doc_id")
"""Keys under which filters find the document of a node, as in other stores of LlamaIndex."""


class HashedNodeStore(BasePydanticVectorStore):  # type: ignore[misc,unused-ignore]
    """A vector store of LlamaIndex whose nodes are found by binary codes of their embeddings.

    It stores whole nodes, so that `VectorStoreIndex.from_vector_store(store)` needs no other storage. Filters use the
    keys of the metadata, and doc_id for the document of a node. Async methods run in another thread.

    Args:
        folder: folder of the store, which is opened or created; None for memory alone.
        hasher: a fitted hasher of the embeddings. None searches the embeddings exactly until there are `fit_at` of
            them, and then fits ITQ.
        settings: `bits`, `fit_at`, `vectors`, `measure`, `candidates` and `kind` of
            `deephash.integrations.hashed_documents.HashedDocuments`.

    Raises:
        InvalidInputError: invalid settings, or a folder that is damaged or that another process has open.

    Examples:
        >>> from llama_index.core.schema import TextNode
        >>> store = HashedNodeStore()
        >>> store.add([TextNode(id_="a", text="one", embedding=[1.0, 0.0])])
        ['a']
        >>> store.query(VectorStoreQuery(query_embedding=[0.9, 0.1])).nodes[0].text
        'one'
    """

    stores_text: bool = True
    folder: str | None = None
    settings: dict[str, Any] = {}  # noqa: RUF012 (a field of pydantic, copied for each store)
    _documents: HashedDocuments = PrivateAttr()

    def __init__(self, folder: str | Path | None = None, *, hasher: Hasher | None = None, **settings: Any) -> None:
        # A described store has its settings under their own name, and other fields of the base class.
        settings = {**settings.pop("settings", {}), **settings}
        for name in ("stores_text", "is_embedding_query", "class_name"):
            settings.pop(name, None)
        documents = open_documents(folder, hasher=hasher, **settings)
        fields: dict[str, Any] = {"folder": None if folder is None else str(folder), "settings": settings}
        super().__init__(stores_text=True, **fields)
        self._documents = documents

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class in descriptions."""
        return "HashedNodeStore"

    @property
    def client(self) -> HashedDocuments:
        """The store of documents."""
        return self._documents

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Add nodes with embeddings, all or none, and return their ids; present ones are replaced.

        Raises:
            InvalidInputError: a node without an embedding, or values that cannot be stored.
        """
        for node in nodes:
            if node.embedding is None:
                raise InvalidInputError(f"the node {node.node_id!r} has no embedding; embed it first.")
        self._documents.add([as_record(node) for node in nodes], [node.embedding for node in nodes])
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Run `add` in another thread."""
        return await asyncio.to_thread(self.add, nodes)

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Remove the nodes of a document; an unknown one is ignored."""
        self._documents.remove_where(has_text("parent", [ref_doc_id]))

    async def adelete(self, ref_doc_id: str, **_: Any) -> None:
        """Run `delete` in another thread."""
        await asyncio.to_thread(self.delete, ref_doc_id)

    def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **_: Any) -> None:
        """Remove nodes by their ids, a filter, or both; without either, none.

        Raises:
            InvalidInputError: an invalid filter.
        """
        if node_ids is not None or filters is not None:
            self._documents.remove_where(select(node_ids, filters))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **_: Any
    ) -> None:
        """Run `delete_nodes` in another thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters)

    def clear(self) -> None:
        """Remove all nodes."""
        self._documents.remove_where(ALWAYS)

    async def aclear(self) -> None:
        """Run `clear` in another thread."""
        await asyncio.to_thread(self.clear)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return nodes by their ids, a filter, or both, without embeddings, in the order of their addition."""
        return [as_node(record) for record in self._documents.records(select(node_ids, filters))]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Run `get_nodes` in another thread."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find the nodes that are most similar to an embedding.

        Args:
            query: embedding, number and filters of nodes; modes DEFAULT and MMR.
            kwargs: `mmr_threshold` and `mmr_prefetch_factor` of the mode MMR: .5 and 4 by default.

        Raises:
            InvalidInputError: another mode, no embedding, an invalid filter, or MMR without stored embeddings.
        """
        if query.query_embedding is None:
            raise InvalidInputError("the query has no embedding; set query_embedding.")
        if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
            raise InvalidInputError(
                f"mode={query.mode}; expected default or mmr, since the store has no index of words."
            )
        # An index over the store gives empty lists if it restricts nothing.
        where = select(query.node_ids or None, query.filters, query.doc_ids or None)
        k = query.similarity_top_k
        if query.mode == VectorStoreQueryMode.MMR:
            depth = int(k * kwargs.get("mmr_prefetch_factor", 4))
            threshold = kwargs.get("mmr_threshold", query.mmr_threshold)
            return as_result(*self._diversify(query.query_embedding, k, depth, where, threshold))
        hits = self._documents.search(query.query_embedding, k, None if where == ALWAYS else where)
        return as_result(hits, [hit.score for hit in hits])

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Run `query` in another thread."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _diversify(
        self, embedding: list[float], k: int, depth: int, where: Condition, threshold: float | None
    ) -> tuple[list[Hit], list[float]]:
        """Return k of the `depth` most similar nodes that differ from each other, and their scores."""
        hits = self._documents.search(embedding, max(k, depth), None if where == ALWAYS else where)
        if not hits:
            return [], []
        vectors = self._documents.embeddings_of(hits).tolist()
        scores, places = get_top_k_mmr_embeddings(
            embedding, vectors, similarity_top_k=k, embedding_ids=list(range(len(hits))), mmr_threshold=threshold
        )
        return [hits[place] for place in places], list(scores)

    def fit(self, hasher: Hasher | None = None) -> Hasher:
        """Fit a hasher now, or take a fitted one, and encode all nodes; see `HashedDocuments.fit`."""
        return self._documents.fit(hasher)

    def save(self, folder: str | Path) -> None:
        """Write a copy of the store into another folder; see `HashedDocuments.save`."""
        self._documents.save(folder)

    def close(self) -> None:
        """Let other processes open the folder."""
        self._documents.close()


def select(
    node_ids: Sequence[str] | None, filters: MetadataFilters | None, doc_ids: Sequence[str] | None = None
) -> Condition:
    """Return the condition of ids, filters and documents, which must all hold."""
    conditions = [] if filters is None else [as_condition(filters)]
    if node_ids is not None:
        conditions.append(has_text("id", node_ids))
    if doc_ids is not None:
        conditions.append(has_text("parent", doc_ids))
    return all_of(conditions)


def as_condition(filters: MetadataFilters) -> Condition:
    """Translate filters, also nested ones; NOT selects nodes that fulfil none of them.

    Raises:
        InvalidInputError: an operator with a value that it cannot take.
    """
    if not filters.filters:
        return ALWAYS
    parts = [
        as_condition(each) if isinstance(each, MetadataFilters) else translate_filter(each) for each in filters.filters
    ]
    if filters.condition == FilterCondition.OR:
        return any_of(parts)
    return negate(any_of(parts)) if filters.condition == FilterCondition.NOT else all_of(parts)


def translate_filter(given: MetadataFilter) -> Condition:
    """Translate one filter. A missing key is equal to None, and fulfils NE, NIN and IS_EMPTY."""
    path, value, operator = (given.key,), given.value, given.operator
    comparisons = (FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE)
    if operator in comparisons:
        return metadata_condition.compare(path, operator.value, value)
    of_lists = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)
    if operator in of_lists and not isinstance(value, list):
        raise InvalidInputError(f"the filter {given.key} {operator.value} {value!r} needs a list.")
    of_texts = (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE)
    if operator in of_texts and not isinstance(value, str):
        raise InvalidInputError(f"the filter {given.key} {operator.value} {value!r} needs a text.")
    values: Any = value
    match operator:
        case FilterOperator.EQ:
            return metadata_condition.equals(path, value)
        case FilterOperator.NE:
            return negate(metadata_condition.equals(path, value))
        case FilterOperator.IN:
            return metadata_condition.is_one_of(path, values)
        case FilterOperator.NIN:
            return negate(metadata_condition.is_one_of(path, values))
        case FilterOperator.CONTAINS:
            return metadata_condition.contains(path, value)
        case FilterOperator.ANY:
            return any_of([metadata_condition.contains(path, each) for each in values])
        case FilterOperator.ALL:
            return all_of([metadata_condition.contains(path, each) for each in values])
        case FilterOperator.TEXT_MATCH | FilterOperator.TEXT_MATCH_INSENSITIVE:
            ignore_case = operator == FilterOperator.TEXT_MATCH_INSENSITIVE
            return metadata_condition.contains_text(path, values, ignore_case=ignore_case)
        case FilterOperator.IS_EMPTY:
            return metadata_condition.is_empty(path)
    raise InvalidInputError(f"the filter {given.key} has the operator {operator!r}, which the store does not have.")


def as_record(node: BaseNode) -> Record:
    """Return the record of a node: its metadata for filters, and its JSON, without the embedding."""
    described = node_to_metadata_dict(node, remove_text=False, flat_metadata=False)
    extra = {name: described.pop(name) for name in ("_node_content", "_node_type")}
    parent = node.ref_doc_id
    metadata = dict(node.metadata) | ({} if parent is None else dict.fromkeys(PARENT_KEYS, parent))
    return Record(node.node_id, None, metadata, extra, parent)


def as_node(record: Record) -> BaseNode:
    """Return LlamaIndex' object of a record."""
    return metadata_dict_to_node(record.extra or {})


def as_result(hits: Sequence[Hit], scores: list[float]) -> VectorStoreQueryResult:
    """Return LlamaIndex' object of hits."""
    nodes = [as_node(hit.record) for hit in hits]
    return VectorStoreQueryResult(nodes=nodes, similarities=scores, ids=[hit.record.id for hit in hits])
