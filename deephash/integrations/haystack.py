"""Haystack: a document store whose documents are found by binary codes, and its retriever."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deephash.hashers.hasher import Hasher
from deephash.integrations import metadata_values
from deephash.integrations.document_table import Record
from deephash.integrations.framework_package import needing
from deephash.integrations.hashed_documents import HashedDocuments
from deephash.integrations.haystack_filters import as_condition
from deephash.integrations.metadata_condition import ALWAYS
from deephash.integrations.open_documents import open_documents
from deephash.validation import InvalidInputError

with needing("haystack-ai", "haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import ByteStream, SparseEmbedding
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy

Filters = dict[str, Any]


class HashedDocumentStore:
    """A document store of Haystack whose documents are found by binary codes of their embeddings.

    Filters use `meta.KEY`, also nested keys, `id` and `content`. Methods that end with `_async` run in another thread.

    Args:
        folder: folder of the store, which is opened or created; None for memory alone.
        hasher: a fitted hasher of the embeddings. None searches the embeddings exactly until there are `fit_at` of
            them, and then fits ITQ.
        settings: `bits`, `fit_at`, `vectors`, `measure`, `candidates` and `kind` of
            `deephash.integrations.hashed_documents.HashedDocuments`.

    Raises:
        InvalidInputError: invalid settings, or a folder that is damaged or that another process has open.

    Examples:
        >>> store = HashedDocumentStore()
        >>> store.write_documents([Document(id="a", content="one", embedding=[1.0, 0.0])])
        1
        >>> HashedEmbeddingRetriever(store).run([0.9, 0.1])["documents"][0].content
        'one'
    """

    def __init__(self, folder: str | Path | None = None, *, hasher: Hasher | None = None, **settings: Any) -> None:
        self.folder = None if folder is None else str(folder)
        self.settings = settings
        self.documents: HashedDocuments = open_documents(folder, hasher=hasher, **settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the folder and the settings; the hasher is in the folder.

        Raises:
            InvalidInputError: a store in memory that has a hasher.
        """
        if self.folder is None and self.documents.hasher is not None:
            raise InvalidInputError("the store is in memory, and its hasher is in no folder; give the store a folder.")
        described: dict[str, Any] = default_to_dict(self, folder=self.folder, **self.settings)
        return described

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Open the store that `to_dict` described."""
        store: Self = default_from_dict(cls, data)
        return store

    def count_documents(self) -> int:
        """Return the number of documents."""
        return len(self.documents)

    def filter_documents(self, filters: Filters | None = None) -> list[Document]:
        """Return the documents that a filter selects, in the order of their addition, with their embeddings.

        Embeddings are float32 or less exact, as `vectors` says.

        Raises:
            FilterError: an invalid filter.
        """
        return [as_document(record, vector) for record, vector in self.documents.find(as_condition(filters))]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Add documents, all or none, and return how many were written.

        Args:
            documents: documents; those without an embedding are found by filters alone.
            policy: NONE and FAIL raise an error for an id that is present or given twice; SKIP keeps the present or
                first document, OVERWRITE the last.

        Raises:
            DuplicateDocumentError: an id that is present or given twice, by NONE or FAIL.
            InvalidInputError: not documents, or values that cannot be stored.
        """
        if not isinstance(documents, list | tuple) or not all(isinstance(each, Document) for each in documents):
            raise InvalidInputError("documents are not a list of haystack.Document; give one.")
        with self.documents.guard:
            chosen = list(documents)
            if policy != DuplicatePolicy.OVERWRITE:
                taken = {record.id for record in self.documents.get([each.id for each in documents])}
                chosen = []
                for document in documents:
                    if document.id not in taken:
                        chosen.append(document)
                        taken.add(document.id)
                    elif policy != DuplicatePolicy.SKIP:
                        raise DuplicateDocumentError(f"ID '{document.id}' already exists.")
            self.documents.add([as_record(each) for each in chosen], [each.embedding for each in chosen])
        return len(chosen)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Remove documents; unknown ids are ignored."""
        self.documents.remove(list(document_ids))

    def delete_all_documents(self) -> None:
        """Remove all documents."""
        self.documents.remove_where(ALWAYS)

    def delete_by_filter(self, filters: Filters) -> int:
        """Remove the documents that a filter selects, and return their number."""
        return self.documents.remove_where(as_condition(filters))

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Set keys of the metadata of the documents that a filter selects, and return their number."""
        with self.documents.guard:
            found = self.documents.records(as_condition(filters))
            self.documents.change([replace(record, metadata=record.metadata | meta) for record in found])
        return len(found)

    def count_documents_by_filter(self, filters: Filters) -> int:
        """Return the number of documents that a filter selects."""
        return self.documents.count(as_condition(filters))

    def _metadata(self, filters: Filters | None = None) -> list[dict[str, Any]]:
        return [record.metadata for record in self.documents.records(as_condition(filters))]

    def count_unique_metadata_by_filter(self, filters: Filters, metadata_fields: list[str]) -> dict[str, int]:
        """Return the number of distinct values of some keys among the documents that a filter selects."""
        metadatas = self._metadata(filters)
        keys = [field.removeprefix("meta.") for field in metadata_fields]
        return {key: len(metadata_values.list_values(metadatas, key)) for key in keys}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Return the type of each key of the metadata: boolean, int, float or keyword."""
        types = metadata_values.describe_types(self._metadata())
        return {key: {"type": kind} for key, kind in types.items()}

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Return the bounds of a key under min and max; None without any, or of numbers and texts together."""
        bounds = metadata_values.find_bounds(self._metadata(), metadata_field.removeprefix("meta."))
        return dict(zip(("min", "max"), bounds, strict=True))

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters | None = None,
    ) -> tuple[list[Any], int]:
        """Return distinct values of a key, and their number.

        Args:
            metadata_field: the key.
            search_term: text that the values contain, without regard to case.
            from_: number of values to leave out.
            size: maximal number of values.
            filters: filter of the documents.
        """
        metadatas = self._metadata(filters)
        values = metadata_values.list_values(metadatas, metadata_field.removeprefix("meta."))
        found = [value for value in values if not search_term or search_term.lower() in str(value).lower()]
        return found[from_ : from_ + size], len(found)

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        filters: Filters | None = None,
        top_k: int = 10,
        return_embedding: bool = False,
    ) -> list[Document]:
        """Return the `top_k` documents with the most similar embeddings, with their scores."""
        if not top_k:
            return []
        hits = self.documents.search(query_embedding, top_k, as_condition(filters) if filters else None)
        vectors = self.documents.embeddings_of(hits) if return_embedding else [None] * len(hits)
        found = [(as_document(hit.record, vector), hit.score) for hit, vector in zip(hits, vectors, strict=True)]
        return [replace(document, score=score) for document, score in found]

    def fit(self, hasher: Hasher | None = None) -> Hasher:
        """Fit a hasher now, or take a fitted one, and encode all documents; see `HashedDocuments.fit`."""
        return self.documents.fit(hasher)

    def save(self, folder: str | Path) -> None:
        """Write a copy of the store into another folder; see `HashedDocuments.save`."""
        self.documents.save(folder)

    def close(self) -> None:
        """Let other processes open the folder."""
        self.documents.close()

    async def count_documents_async(self) -> int:
        """Run `count_documents` in another thread."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: Filters | None = None) -> list[Document]:
        """Run `filter_documents` in another thread."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Run `write_documents` in another thread."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """Run `delete_documents` in another thread."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self) -> None:
        """Run `delete_all_documents` in another thread."""
        await asyncio.to_thread(self.delete_all_documents)

    async def delete_by_filter_async(self, filters: Filters) -> int:
        """Run `delete_by_filter` in another thread."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Run `update_by_filter` in another thread."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def count_documents_by_filter_async(self, filters: Filters) -> int:
        """Run `count_documents_by_filter` in another thread."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def count_unique_metadata_by_filter_async(
        self, filters: Filters, metadata_fields: list[str]
    ) -> dict[str, int]:
        """Run `count_unique_metadata_by_filter` in another thread."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """Run `get_metadata_fields_info` in another thread."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """Run `get_metadata_field_min_max` in another thread."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters | None = None,
    ) -> tuple[list[Any], int]:
        """Run `get_metadata_field_unique_values` in another thread."""
        function = self.get_metadata_field_unique_values
        return await asyncio.to_thread(function, metadata_field, search_term, from_, size, filters)

    async def embedding_retrieval_async(
        self,
        query_embedding: list[float],
        filters: Filters | None = None,
        top_k: int = 10,
        return_embedding: bool = False,
    ) -> list[Document]:
        """Run `embedding_retrieval` in another thread."""
        return await asyncio.to_thread(self.embedding_retrieval, query_embedding, filters, top_k, return_embedding)


@component
class HashedEmbeddingRetriever:
    """A retriever of a `HashedDocumentStore`.

    Args:
        document_store: the store.
        filters: filter of the documents.
        top_k: number of documents.
        return_embedding: whether documents have their stored embeddings.
        filter_policy: whether a filter of `run` replaces `filters` or is combined with it.

    Raises:
        InvalidInputError: another store, or `top_k` below 1.
    """

    def __init__(
        self,
        document_store: HashedDocumentStore,
        filters: Filters | None = None,
        top_k: int = 10,
        return_embedding: bool = False,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        if not isinstance(document_store, HashedDocumentStore):
            raise InvalidInputError(
                f"document_store is a {type(document_store).__name__}; expected a HashedDocumentStore."
            )
        if top_k <= 0:
            raise InvalidInputError(f"top_k={top_k}; expected at least 1.")
        self.document_store, self.filters, self.top_k = document_store, filters, top_k
        self.return_embedding, self.filter_policy = return_embedding, filter_policy

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments; the store is described by its folder."""
        described: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
        )
        return described

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "HashedEmbeddingRetriever":
        """Build the retriever that `to_dict` described, and open its store."""
        arguments = dict(data.get("init_parameters", {}))
        if isinstance(arguments.get("document_store"), dict):
            arguments["document_store"] = HashedDocumentStore.from_dict(arguments["document_store"])
        if "filter_policy" in arguments:
            arguments["filter_policy"] = FilterPolicy.from_str(arguments["filter_policy"])
        return cls(**arguments)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: Filters | None = None,
        top_k: int | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Return the most similar documents under `documents`.

        Args:
            query_embedding: embedding of the query.
            filters: filter of the documents.
            top_k: number of documents; None for that of the retriever.
            return_embedding: whether documents have their embeddings; None for the choice of the retriever.
        """
        arguments = self._arguments(filters, top_k, return_embedding)
        return {"documents": self.document_store.embedding_retrieval(query_embedding, *arguments)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        filters: Filters | None = None,
        top_k: int | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Run as `run`, in another thread."""
        arguments = self._arguments(filters, top_k, return_embedding)
        return {"documents": await self.document_store.embedding_retrieval_async(query_embedding, *arguments)}

    def _arguments(
        self, filters: Filters | None, top_k: int | None, return_embedding: bool | None
    ) -> tuple[Filters | None, int, bool]:
        return (
            apply_filter_policy(self.filter_policy, self.filters, filters),
            self.top_k if top_k is None else top_k,
            self.return_embedding if return_embedding is None else return_embedding,
        )


def as_record(document: Document) -> Record:
    """Return the record of a document."""
    extra = {
        "blob": None if document.blob is None else document.blob.to_dict(),
        "score": document.score,
        "sparse_embedding": None if document.sparse_embedding is None else document.sparse_embedding.to_dict(),
    }
    kept = {name: value for name, value in extra.items() if value is not None}
    return Record(document.id, document.content, document.meta, kept or None)


def as_document(record: Record, vector: NDArray[np.float32] | None = None) -> Document:
    """Return Haystack's object of a record, with an embedding."""
    extra = record.extra or {}
    blob, sparse = extra.get("blob"), extra.get("sparse_embedding")
    return Document(
        id=record.id,
        content=record.text,
        blob=None if blob is None else ByteStream.from_dict(blob),
        meta=record.metadata,
        score=extra.get("score"),
        embedding=None if vector is None else vector.tolist(),
        sparse_embedding=None if sparse is None else SparseEmbedding.from_dict(sparse),
    )
