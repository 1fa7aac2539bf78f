"""LangChain: a vector store that finds documents by binary codes."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from deephash.hashers.hasher import Hasher
from deephash.integrations import metadata_condition
from deephash.integrations.document_table import Record
from deephash.integrations.framework_package import needing
from deephash.integrations.hashed_documents import HashedDocuments, Hit
from deephash.integrations.metadata_condition import Condition, all_of, any_of, negate
from deephash.integrations.open_documents import open_documents
from deephash.validation import InvalidInputError

with needing("langchain-core", "langchain"):
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.runnables.config import run_in_executor
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance

Filter = dict[str, Any]
ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


class HashedVectorStore(VectorStore):  # type: ignore[misc,unused-ignore]
    """A `VectorStore` whose documents are found by binary codes of their embeddings.

    Args:
        embedding: model of the embeddings.
        folder: folder of the store, which is opened or created; None for memory alone.
        hasher: a fitted hasher of the embeddings. None searches the embeddings exactly until there are `fit_at` of
            them, and then fits ITQ.
        settings: `bits`, `fit_at`, `vectors`, `measure`, `candidates` and `kind` of
            `deephash.integrations.hashed_documents.HashedDocuments`.

    Raises:
        InvalidInputError: invalid settings, or a folder that is damaged or that another process has open.

    Examples:
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> store = HashedVectorStore(DeterministicFakeEmbedding(size=8))
        >>> ids = store.add_texts(["one", "two"], [{"page": 1}, {"page": 2}])
        >>> [document.page_content for document in store.similarity_search("two", k=1)]
        ['two']
        >>> [document.page_content for document in store.similarity_search("two", filter={"page": {"$lt": 2}})]
        ['one']
    """

    def __init__(
        self,
        embedding: Embeddings,
        folder: str | Path | None = None,
        *,
        hasher: Hasher | None = None,
        **settings: Any,
    ) -> None:
        self.embedding = embedding
        self.documents: HashedDocuments = open_documents(folder, hasher=hasher, **settings)

    @property
    def embeddings(self) -> Embeddings:
        """Model of the embeddings."""
        return self.embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and add texts, all or none; a text with an id that is present replaces the present one.

        Args:
            texts: n texts.
            metadatas: n dicts of JSON values.
            ids: n ids; those that are missing or None are drawn at random.
            kwargs: none.

        Returns:
            The ids.

        Raises:
            InvalidInputError: another number of metadata or ids, or values that cannot be stored; nothing is added.
        """
        refuse(kwargs)
        texts = list(texts)
        records = as_records(texts, metadatas, ids)
        self.documents.add(records, self.embedding.embed_documents(texts) if texts else [])
        return [record.id for record in records]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and add texts, as `add_texts`, with the model's own async method."""
        refuse(kwargs)
        texts = list(texts)
        records = as_records(texts, metadatas, ids)
        embeddings = await self.embedding.aembed_documents(texts) if texts else []
        await run_in_executor(None, self.documents.add, records, embeddings)
        return [record.id for record in records]

    def add_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Any,
        metadatas: list[dict[str, Any]] | None = None,
        ids: list[str] | None = None,
    ) -> list[str]:
        """Add texts whose embeddings (n, d) are computed already; see `add_texts`."""
        records = as_records(list(texts), metadatas, ids)
        self.documents.add(records, embeddings)
        return [record.id for record in records]

    def delete(self, ids: list[str] | None = None, filter: Filter | None = None, **kwargs: Any) -> bool:
        """Remove documents by their ids or by a filter; without either, all documents. Unknown ids are ignored.

        Returns:
            True.
        """
        refuse(kwargs)
        if ids is not None and filter is not None:
            raise InvalidInputError("ids and filter are both given; give one of them.")
        if ids is not None:
            self.documents.remove(list(ids))
        else:
            self.documents.remove_where(as_condition(filter or {}))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in their order; unknown ids are left out."""
        return [as_document(record) for record in self.documents.get(ids)]

    def similarity_search(self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any) -> list[Document]:
        """Return the k documents that are most similar to a text and fulfil a filter; see `as_condition`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter=filter, **kwargs)]

    async def asimilarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Search as `similarity_search`, with the model's own async method."""
        found = await self.asimilarity_search_with_score(query, k, filter=filter, **kwargs)
        return [document for document, _ in found]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return documents and their similarities, as `measure` defines them; larger is nearer."""
        return self.similarity_search_with_score_by_vector(
            self.embedding.embed_query(query), k, filter=filter, **kwargs
        )

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Search as `similarity_search_with_score`, with the model's own async method."""
        refuse(kwargs)
        vector = await self.embedding.aembed_query(query)
        hits = await run_in_executor(None, self._search, vector, k, filter)
        return [(as_document(hit.record), hit.score) for hit in hits]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Return the k documents that are most similar to an embedding."""
        found = self.similarity_search_with_score_by_vector(embedding, k, filter=filter, **kwargs)
        return [document for document, _ in found]

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return the k documents that are most similar to an embedding, and their similarities."""
        refuse(kwargs)
        return [(as_document(hit.record), hit.score) for hit in self._search(embedding, k, filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return k documents of the `fetch_k` most similar ones that also differ from each other.

        Args:
            query: a text.
            k: number of documents.
            fetch_k: number of candidates.
            lambda_mult: 1 for similarity with the query alone, 0 for differences alone.
            filter: filter of the documents.
            kwargs: none.

        Raises:
            InvalidInputError: the store keeps no embeddings.
        """
        embedding = self.embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(embedding, k, fetch_k, lambda_mult, filter=filter, **kwargs)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Search as `max_marginal_relevance_search`, with the model's own async method."""
        embedding = await self.embedding.aembed_query(query)
        return await self.amax_marginal_relevance_search_by_vector(
            embedding, k, fetch_k, lambda_mult, filter=filter, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Search as `max_marginal_relevance_search`, by an embedding."""
        refuse(kwargs)
        hits = self._search(embedding, max(k, fetch_k), filter)
        vectors: Any = self.documents.embeddings_of(hits)
        chosen = maximal_marginal_relevance(np.array(embedding, np.float32), vectors, lambda_mult, k) if hits else []
        return [as_document(hits[place].record) for place in chosen]

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Search as `max_marginal_relevance_search_by_vector`, in another thread."""
        refuse(kwargs)
        search = self.max_marginal_relevance_search_by_vector
        found: list[Document] = await run_in_executor(None, search, embedding, k, fetch_k, lambda_mult, filter)
        return found

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open or create a store, whose arguments are `kwargs`, and add texts."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open or create a store, whose arguments are `kwargs`, and add texts."""
        store = cls(embedding, **kwargs)
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store

    def fit(self, hasher: Hasher | None = None) -> Hasher:
        """Fit a hasher now, or take a fitted one, and encode all documents; see `HashedDocuments.fit`."""
        return self.documents.fit(hasher)

    def save(self, folder: str | Path) -> None:
        """Write a copy of the store into another folder; see `HashedDocuments.save`."""
        self.documents.save(folder)

    def close(self) -> None:
        """Let other processes open the folder."""
        self.documents.close()

    def _search(self, embedding: list[float], k: int, filter: Filter | None) -> list[Hit]:
        return self.documents.search(embedding, k, None if filter is None else as_condition(filter))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Return the map from scores to relevances in [0, 1]."""
        measure = self.documents.settings.measure
        if measure == "cosine":
            return lambda score: max(score, 0.0)
        if measure == "euclidean":
            return lambda score: 1 / (1 - score)
        raise InvalidInputError("inner products have no bounds, so no relevance from 0 to 1; use measure='cosine'.")


def as_condition(filter: Filter) -> Condition:
    """Translate a filter.

    A filter is a dict of keys of the metadata and values, or of operators: {"page": 1, "year": {"$gte": 2020}}. All
    must hold. Operators are $eq, $ne, $gt, $gte, $lt, $lte, $between, $in, $nin, $exists, $like and $ilike; $and and
    $or take lists of filters, $not a filter. A missing key is equal to None, and fulfils $ne and $nin.

    Raises:
        InvalidInputError: a function, an unknown operator, or a value that it cannot take.
    """
    if not isinstance(filter, dict):
        raise InvalidInputError(
            f"filter is a {type(filter).__name__}; expected a dict such as {{'page': {{'$gte': 2}}}}, since documents "
            "are on the disk."
        )
    return all_of([translate_entry(key, value) for key, value in filter.items()])


def translate_entry(key: Any, value: Any) -> Condition:
    """Translate one entry of a filter."""
    if key in ("$and", "$or"):
        if not isinstance(value, list | tuple):
            raise InvalidInputError(f"filter has {key}: {value!r}; expected a list of filters.")
        return (all_of if key == "$and" else any_of)([as_condition(each) for each in value])
    if key == "$not":
        return negate(as_condition(value))
    if isinstance(key, str) and key.startswith("$"):
        raise InvalidInputError(f"filter has the operator {key}; expected a key of the metadata, $and, $or or $not.")
    if not isinstance(value, dict):
        return metadata_condition.equals((key,), value)
    return all_of([translate_operator((key,), operator, operand) for operator, operand in value.items()])


def translate_operator(path: metadata_condition.Path, operator: str, value: Any) -> Condition:
    """Translate one operator of a key."""
    if operator in ORDER:
        return metadata_condition.compare(path, ORDER[operator], value)
    if operator in ("$in", "$nin", "$between") and not isinstance(value, list | tuple):
        raise InvalidInputError(f"filter has {operator}: {value!r}; expected a list.")
    if operator in ("$like", "$ilike") and not isinstance(value, str):
        raise InvalidInputError(f"filter has {operator}: {value!r}; expected a text.")
    if operator == "$exists" and not isinstance(value, bool):
        raise InvalidInputError(f"filter has $exists: {value!r}; expected True or False.")
    if operator == "$between" and len(value) != 2:
        raise InvalidInputError(f"filter has $between: {value!r}; expected two values.")
    match operator:
        case "$eq":
            return metadata_condition.equals(path, value)
        case "$ne":
            return negate(metadata_condition.equals(path, value))
        case "$in":
            return metadata_condition.is_one_of(path, value)
        case "$nin":
            return negate(metadata_condition.is_one_of(path, value))
        case "$between":
            bounds = zip((">=", "<="), value, strict=True)
            return all_of([metadata_condition.compare(path, sign, bound) for sign, bound in bounds])
        case "$exists":
            return metadata_condition.exists(path) if value else negate(metadata_condition.exists(path))
        case "$like" | "$ilike":
            return metadata_condition.matches_pattern(path, value, ignore_case=operator == "$ilike")
    raise InvalidInputError(
        f"filter has the operator {operator!r} for {path[0]!r}; expected $eq, $ne, $gt, $gte, $lt, $lte, $between, "
        "$in, $nin, $exists, $like or $ilike."
    )


def as_records(
    texts: Sequence[str], metadatas: Sequence[dict[str, Any]] | None, ids: Sequence[str | None] | None
) -> list[Record]:
    """Join texts, metadata and ids.

    Raises:
        InvalidInputError: another number of metadata or ids, or texts of another type.
    """
    for name, values in (("metadatas", metadatas), ("ids", ids)):
        if values is not None and len(values) != len(texts):
            raise InvalidInputError(f"there are {len(texts)} texts and {len(values)} {name}; give one for each.")
    for text in texts:
        if not isinstance(text, str):
            raise InvalidInputError(f"the texts contain {text!r}; expected texts.")
    names = [name or str(uuid.uuid4()) for name in ids or [None] * len(texts)]
    return [
        Record(name, text, metadata or {})
        for name, text, metadata in zip(names, texts, metadatas or [{}] * len(texts), strict=True)
    ]


def as_document(record: Record) -> Document:
    """Return LangChain's object of a document."""
    return Document(page_content=record.text or "", metadata=record.metadata, id=record.id)


def refuse(arguments: dict[str, Any]) -> None:
    """Raise an error for arguments that the store does not have."""
    if arguments:
        raise InvalidInputError(f"the store has no argument {next(iter(arguments))!r}; leave it out.")
