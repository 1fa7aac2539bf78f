"""Documents that are found by codes of their embeddings: the store behind LangChain's, Haystack's and LlamaIndex'."""

import logging
import shutil
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash.hashers.hasher import Hasher
from deephash.indexes.rescoring import MEASURES, score_pairs
from deephash.integrations.document_table import DocumentTable, Record, check_ids
from deephash.integrations.metadata_condition import ALWAYS, Condition
from deephash.integrations.row_search import CodeSearch, Rows, RowSearch, VectorScan
from deephash.integrations.store_settings import StoreSettings, check_hasher
from deephash.integrations.vector_format import NONE, decode_vectors, encode_vectors, vector_width
from deephash.io.files import write_whole, writing
from deephash.io.ownership import lock_for_writing
from deephash.projections.itq import ITQ
from deephash.validation import InvalidInputError, as_features, check_count, to_floating

log = logging.getLogger(__name__)

DATABASE_FILE = "documents.sqlite"
HASHER_FOLDER = "hasher-"
MAX_FIT_ROWS = 20_000
"""Maximal number of embeddings, drawn at random, that a hasher is fitted on; it bounds the time of a fit."""
MAX_BITS = 256


@dataclass(frozen=True)
class Hit:
    """A document that a search found.

    Args:
        record: the document.
        score: its similarity with the query; larger is nearer.
        row: its row in the store.
    """

    record: Record
    score: float
    row: int


class HashedDocuments:
    """Texts and metadata in SQLite, found by binary codes of their embeddings.

    The codes are in memory, in an index; texts, metadata and embeddings are on the disk, in one database. A search
    takes `candidates` from the index and orders them by their stored embeddings. SQLite makes each change in one
    transaction, and the index is built again from the stored codes when the store is opened, so that no kill separates
    one from the other.

    A store needs a hasher. If none is given, it searches the embeddings themselves, exactly, until it has `fit_at` of
    them. The addition that reaches this number fits ITQ and encodes all. `fit` does so earlier, or again.

    Args:
        folder: folder of the store, which is opened if it contains one and created otherwise; None for memory alone,
            which `save` writes to a folder. One process at a time can open a folder. A process that opens a folder
            twice gets the same store.
        hasher: a fitted hasher of the embeddings, with codes ranked by Hamming distance. None fits ITQ.
        bits: code length b of the ITQ that is fitted; None for 256, or the dimension if it is smaller.
        fit_at: number of embeddings at which ITQ is fitted; at least 2.
        vectors: stored embeddings, for the order of candidates: "float32", "float16", "int8" (one byte per dimension,
            with a scale for each embedding), or "none", which orders by codes alone and drops embeddings once a hasher
            is fitted.
        measure: similarity: "cosine", "inner_product" or "euclidean", whose scores are negative distances. "none" has
            "cosine" alone, estimated by that of the query's margins with the bits as 1 and -1 (of quantisers other
            than SBQ, as 1 - 2h/b from the Hamming distance h).
        candidates: number of candidates that a search orders by their embeddings, at least k.
        kind: kind of index; one that takes changes, such as "flat" or "mih".

    Raises:
        InvalidInputError: invalid settings, settings or a hasher that differ from those of the folder, a damaged
            folder, or one that another process has open.

    Examples:
        >>> store = HashedDocuments()
        >>> store.add([Record("a", "one"), Record("b", "two", {"page": 2})], [[1.0, 0.0], [0.0, 1.0]])
        >>> [hit.record.text for hit in store.search([0.1, 0.9], k=1)]
        ['two']
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        hasher: Hasher | None = None,
        bits: int | None = None,
        fit_at: int | None = None,
        vectors: str | None = None,
        measure: str | None = None,
        candidates: int | None = None,
        kind: str | None = None,
    ) -> None:
        arguments: dict[str, Any] = {
            "bits": bits,
            "fit_at": fit_at,
            "vectors": vectors,
            "measure": measure,
            "candidates": candidates,
            "kind": kind,
        }
        given = {name: value for name, value in arguments.items() if value is not None}
        self.settings = StoreSettings(**given)
        if hasher is not None:
            check_hasher(hasher)
        self.folder = None if folder is None else Path(folder)
        self.guard = threading.RLock()
        with ExitStack() as resources:
            path = None
            if self.folder is not None:
                resources.enter_context(lock_for_writing(self.folder, str(self.folder)))
                path = self.folder / DATABASE_FILE
            self.table = DocumentTable(path)
            resources.callback(self.table.connection.close)
            self._open(given, hasher)
            # Also without a call of close, the file is closed and the folder is unlocked when the store is forgotten.
            self._close = weakref.finalize(self, resources.pop_all().close)

    def _open(self, given: dict[str, Any], hasher: Hasher | None) -> None:
        stored = self.table.read_settings()
        is_new = "dimension" not in stored
        if not is_new:
            held: dict[str, Any] = {each.name: stored.get(each.name) for each in fields(StoreSettings)}
            self.settings = StoreSettings(**held)
            self.check_given(given)
            # The only setting that no stored value depends on.
            self.settings = replace(self.settings, candidates=given.get("candidates", self.settings.candidates))
        self.dimension: int | None = stored.get("dimension")
        self.hasher: Hasher | None = None
        self._next_fit = self.settings.fit_at
        self._next_row = self.table.last_row() + 1
        if is_new:
            if hasher is not None:
                self.dimension, self.hasher = hasher.input_dim, hasher
            self._write_new(hasher)
        else:
            self._load_hasher(stored.get("hasher"), hasher)
        self._search: RowSearch | None = None
        self._load_search()

    def _write_new(self, hasher: Hasher | None) -> None:
        name = None if hasher is None else self._save_hasher(hasher, self.folder)
        with self.table.transaction():
            self.table.write_settings(asdict(self.settings) | {"dimension": self.dimension, "hasher": name})

    def _load_hasher(self, name: str | None, given: Hasher | None) -> None:
        """Load the hasher of the folder, and remove those that an interrupted fit left."""
        assert self.folder is not None
        if name is not None:
            if not isinstance(name, str) or Path(name).name != name or not name.startswith(HASHER_FOLDER):
                raise InvalidInputError(f"{self.folder} names the hasher {name!r}; restore it.")
            self.hasher = Hasher.load(self.folder / name)
            check_hasher(self.hasher)
            if self.dimension != self.hasher.input_dim:
                raise InvalidInputError(
                    f"{self.folder} has embeddings of {self.dimension} dimensions and a hasher of "
                    f"{self.hasher.input_dim}; restore it."
                )
        self.check_given({}, given)
        remove_hashers(self.folder, name)

    def check_given(self, settings: dict[str, Any], hasher: Hasher | None = None) -> None:
        """Raise an error if given settings, except `candidates`, or a hasher differ from those of the store."""
        for name, value in settings.items():
            held = getattr(self.settings, name)
            if name != "candidates" and value is not None and value != held:
                raise InvalidInputError(
                    f"{self.folder} has {name}={held!r}, and {name}={value!r} is given; leave it out, or choose "
                    "another folder."
                )
        if hasher is not None and (self.hasher is None or self.hasher.identity != hasher.identity):
            known = "no hasher yet" if self.hasher is None else f"the hasher {self.hasher.identity}"
            raise InvalidInputError(
                f"{self.folder} has {known}, and {hasher.identity} is given; open it without a hasher, and call "
                "fit(hasher) to encode its documents again."
            )

    def _load_search(self) -> None:
        """Build the index, or the matrix of vectors, from the database."""
        if self.dimension is None:
            return
        if self.hasher is None:
            kind = self.settings.stored_format
            scan = VectorScan(self.dimension, self.settings.measure)
            for rows, blobs in self.table.iterate_blobs("vectors", vector_width(kind, self.dimension)):
                scan.add(rows, decode_vectors(blobs, kind))
            self._search = scan
            return
        search = CodeSearch(self.hasher, self.settings.kind)
        blocks = list(self.table.iterate_blobs("codes", (self.hasher.bits + 7) // 8))
        if blocks:
            rows, codes = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
            search.add(rows, codes)
        self._search = search

    @property
    def is_open(self) -> bool:
        """Whether the store has not been closed."""
        return self._close.alive

    @property
    def keeps_vectors(self) -> bool:
        """Whether embeddings are stored."""
        return self.hasher is None or self.settings.vectors != NONE

    def __len__(self) -> int:
        with self._using():
            return self.table.count()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Let one thread at a time use the store."""
        with self.guard:
            if not self.is_open:
                raise InvalidInputError("the store is closed; open it again.")
            yield

    def add(self, records: Sequence[Record], embeddings: Any) -> None:
        """Add documents, all or none; a document with an id that is present replaces the present one.

        Of several records with one id, the last is kept. If the addition reaches `fit_at` embeddings, it also fits a
        hasher, which takes seconds.

        Args:
            records: n documents.
            embeddings: floating (n, d), or a list with an embedding, or None, for each document. A document without an
                embedding is never found by a search.

        Raises:
            InvalidInputError: embeddings of another number or dimension, NaN, ids that are not texts, or metadata that
                are not JSON-serialisable; nothing is added.
            StorageError: the disk does not accept them; nothing is added.
        """
        records = list(records)
        check_ids([record.id for record in records])
        with self._using():
            has_vector, vectors = self._as_vectors(embeddings, len(records))
            last = {record.id: place for place, record in enumerate(records)}
            kept = np.zeros(len(records), bool)
            kept[list(last.values())] = True
            vectors = vectors[kept[has_vector]]
            has_vector = has_vector[kept]
            records = [record for record, keep in zip(records, kept, strict=True) if keep]
            if not records:
                return
            rows = np.arange(self._next_row, self._next_row + len(records))
            self._write(records, rows, rows[has_vector], vectors)
            if self.hasher is None and self._search is not None and self._search.size >= self._next_fit:
                self._fit_automatically()

    def _as_vectors(self, embeddings: Any, count: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which documents have an embedding, and these embeddings, float32 (m, d)."""
        if isinstance(embeddings, list | tuple):
            has_vector = np.array([each is not None for each in embeddings], bool)
            embeddings = [each for each in embeddings if each is not None]
        else:
            has_vector = np.ones(len(embeddings), bool)
        if len(has_vector) != count:
            raise InvalidInputError(f"there are {count} documents and {len(has_vector)} embeddings; give one for each.")
        if not has_vector.any():
            return has_vector, np.empty((0, self.dimension or 0), np.float32)
        return has_vector, self._as_floats(embeddings)

    def _as_floats(self, embeddings: Tensor | ArrayLike) -> NDArray[np.float32]:
        checked = as_features(embeddings, self.dimension, name="embeddings").detach().cpu()
        vectors: NDArray[np.float32] = checked.float().numpy()
        if checked.dtype == torch.float64 and not np.isfinite(vectors).all():
            raise InvalidInputError("embeddings contain values beyond float32; scale them.")
        return vectors

    def _write(self, records: Sequence[Record], rows: Rows, vector_rows: Rows, vectors: NDArray[np.float32]) -> None:
        """Write documents at rows, in place of those with their ids, and vectors at some of the rows."""
        dimension = vectors.shape[1] if len(vectors) else self.dimension
        stored = codes = None
        if len(vectors) and self.keeps_vectors:
            stored = encode_vectors(vectors, self.settings.stored_format)
        if len(vectors) and self.hasher is not None:
            codes = self.hasher.encode(torch.from_numpy(vectors)).cpu().numpy()
        replaced = np.array(sorted(self.table.find_rows(record.id for record in records).values()), np.int64)
        with self.table.transaction():
            if len(replaced):
                self.table.delete(replaced)
            self.table.insert(int(rows[0]), records)
            if stored is not None:
                self.table.write_blobs("vectors", vector_rows, stored)
            if codes is not None:
                self.table.write_blobs("codes", vector_rows, codes)
            if dimension != self.dimension:
                self.table.write_settings({"dimension": dimension})
        self._next_row = int(rows[-1]) + 1
        if dimension != self.dimension:
            assert dimension is not None
            self.dimension, self._search = dimension, VectorScan(dimension, self.settings.measure)
        if self._search is None:
            return
        if len(replaced):
            self._search.remove(replaced)
        if codes is not None:
            assert isinstance(self._search, CodeSearch)
            self._search.add(vector_rows, codes)
        elif stored is not None:
            assert isinstance(self._search, VectorScan)
            self._search.add(vector_rows, decode_vectors(stored, self.settings.stored_format))

    def remove(self, ids: Sequence[str]) -> int:
        """Remove documents; unknown ids are ignored.

        Returns:
            Number of removed documents.
        """
        with self._using():
            return self._remove_rows(sorted(self.table.find_rows(ids).values()))

    def remove_where(self, condition: Condition) -> int:
        """Remove the documents that a condition selects, and return their number."""
        with self._using():
            return self._remove_rows(self.table.select_rows(condition).tolist())

    def _remove_rows(self, rows: list[int]) -> int:
        if rows:
            with self.table.transaction():
                self.table.delete(rows)
            if self._search is not None:
                self._search.remove(np.array(rows, np.int64))
        return len(rows)

    def change(self, records: Sequence[Record]) -> None:
        """Replace texts and metadata of present documents, which keep their embeddings and their places.

        Raises:
            InvalidInputError: an unknown id, or metadata that are not JSON-serialisable; nothing is changed.
        """
        with self._using():
            rows = self.table.find_rows(record.id for record in records)
            missing = [record.id for record in records if record.id not in rows]
            if missing:
                raise InvalidInputError(f"no document has the id {missing[0]!r}; add it.")
            with self.table.transaction():
                self.table.update([(rows[record.id], record) for record in records])

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Return the documents with these ids, in their order; unknown ids are left out."""
        with self._using():
            rows = self.table.find_rows(ids)
            return self.table.read_records([rows[name] for name in ids if name in rows])

    def find(self, condition: Condition = ALWAYS) -> list[tuple[Record, NDArray[np.float32] | None]]:
        """Return the documents that a condition selects, in the order of their addition, with their embeddings.

        An embedding is None if the document has none, or the store keeps none.
        """
        with self._using():
            rows = self.table.select_rows(condition)
            return list(zip(self.table.read_records(rows), self._embeddings_of(rows), strict=True))

    def records(self, condition: Condition = ALWAYS) -> list[Record]:
        """Return the documents that a condition selects, in the order of their addition."""
        with self._using():
            return self.table.read_records(self.table.select_rows(condition))

    def count(self, condition: Condition = ALWAYS) -> int:
        """Return the number of documents that a condition selects."""
        with self._using():
            return self.table.count(condition)

    def embeddings_of(self, hits: Sequence[Hit]) -> NDArray[np.float32]:
        """Return the stored embeddings of hits, float32 (n, d).

        Raises:
            InvalidInputError: the store keeps no embeddings.
        """
        with self._using():
            if not self.keeps_vectors:
                raise InvalidInputError("the store has vectors='none' and keeps no embeddings; choose 'int8' or more.")
            return self._vectors_of(np.array([hit.row for hit in hits], np.int64))

    def _embeddings_of(self, rows: Rows) -> list[NDArray[np.float32] | None]:
        if not self.keeps_vectors or self.dimension is None or not len(rows):
            return [None] * len(rows)
        present = self.table.rows_with_blobs("vectors", rows)
        vectors = iter(self._vectors_of(rows[present]))
        return [next(vectors) if has else None for has in present]

    def _vectors_of(self, rows: Rows) -> NDArray[np.float32]:
        if not len(rows) or self.dimension is None:
            return np.empty((0, self.dimension or 0), np.float32)
        if isinstance(self._search, VectorScan):
            return self._search.vectors_of(rows)
        kind = self.settings.stored_format
        return decode_vectors(self.table.read_blobs("vectors", rows, vector_width(kind, self.dimension)), kind)

    def search(self, query: Tensor | ArrayLike, k: int = 10, where: Condition | None = None) -> list[Hit]:
        """Find the documents with the most similar embeddings, the most similar first.

        Args:
            query: embedding (d,).
            k: number of documents; fewer are returned if the store, or the condition, has fewer.
            where: condition that the documents fulfil.

        Raises:
            InvalidInputError: an embedding of another dimension or with NaN, or k below 1.
        """
        check_count(k, "k")
        vector = to_floating(query, "the query")
        if vector.ndim != 1:
            raise InvalidInputError(f"the query has shape {tuple(vector.shape)}; expected one embedding, (d,).")
        with self._using():
            vector = self._as_floats(vector[None])[0]
            if self._search is None or not self._search.size:
                return []
            allowed = None if where is None else self.table.select_rows(where)
            depth = max(k, self.settings.candidates)
            rows, scores = self._search.find(vector, depth, allowed)
            if self.keeps_vectors and len(rows):
                rows, scores = self._rescore(vector, rows)
            elif isinstance(self._search, CodeSearch) and self._search.has_margins and len(rows):
                rows, scores = self._search.order_by_margins(vector, rows)
            found = self.table.read_records(rows[:k])
            best = zip(found, scores[:k], rows[:k], strict=True)
            return [Hit(record, float(score), int(row)) for record, score, row in best]

    def _rescore(self, query: NDArray[np.float32], rows: Rows) -> tuple[Rows, NDArray[np.float64]]:
        """Order candidates by their stored embeddings; ties are in the order of addition."""
        rows = np.sort(rows)
        measure = self.settings.measure
        vectors = torch.from_numpy(self._vectors_of(rows))[None]
        scores = score_pairs(torch.from_numpy(query)[None], vectors, measure)[0].numpy()
        scores = scores if MEASURES[measure] else -scores
        scores = scores.clip(-1, 1) if measure == "cosine" else scores
        order = np.argsort(-scores, kind="stable")
        return rows[order], scores[order]

    def fit(self, hasher: Hasher | None = None) -> Hasher:
        """Fit a hasher on the stored embeddings, or take a fitted one, and encode all documents with it.

        Args:
            hasher: a fitted hasher; None fits ITQ with `bits` on up to 20,000 embeddings.

        Returns:
            The hasher.

        Raises:
            InvalidInputError: the store has no embeddings, does not keep them, or they do not suffice for the hasher;
                nothing is changed.
        """
        with self._using():
            if not self.keeps_vectors:
                raise InvalidInputError(
                    "the store has vectors='none' and dropped its embeddings; add the documents to another store."
                )
            if hasher is None:
                hasher = self._fit_itq()
            check_hasher(hasher)
            if self.dimension is not None and hasher.input_dim != self.dimension:
                raise InvalidInputError(
                    f"the hasher has {hasher.input_dim} dimensions, and the store's embeddings {self.dimension}; give "
                    "a hasher of the same."
                )
            self._adopt(hasher)
            return hasher

    def _fit_itq(self) -> Hasher:
        rows = self._all_vector_rows()
        if self.dimension is None or not len(rows):
            raise InvalidInputError("the store has no embeddings to fit a hasher on; add documents first.")
        if len(rows) > MAX_FIT_ROWS:
            rows = np.sort(np.random.default_rng(0).choice(rows, MAX_FIT_ROWS, replace=False))
        bits = self.settings.bits or min(MAX_BITS, self.dimension)
        return Hasher(ITQ(self.dimension, bits)).fit(torch.from_numpy(self._vectors_of(rows)))

    def _all_vector_rows(self) -> Rows:
        rows = self.table.select_rows(ALWAYS)
        return rows[self.table.rows_with_blobs("vectors", rows)]

    def _adopt(self, hasher: Hasher) -> None:
        """Encode all documents with a hasher, in one transaction."""
        name = self._save_hasher(hasher, self.folder)
        search = CodeSearch(hasher, self.settings.kind)
        kind = self.settings.stored_format
        blocks: list[tuple[Rows, NDArray[np.uint8]]] = []
        if self.dimension is not None:
            for rows, blobs in self.table.iterate_blobs("vectors", vector_width(kind, self.dimension)):
                blocks.append((rows, hasher.encode(torch.from_numpy(decode_vectors(blobs, kind))).cpu().numpy()))
        with self.table.transaction():
            self.table.clear("codes")
            for rows, codes in blocks:
                self.table.write_blobs("codes", rows, codes)
            if self.settings.vectors == NONE:
                self.table.clear("vectors")
            self.table.write_settings({"hasher": name, "dimension": hasher.input_dim})
        if blocks:
            all_rows, all_codes = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
            search.add(all_rows, all_codes)
        self.hasher, self.dimension, self._search = hasher, hasher.input_dim, search
        if self.folder is not None:
            remove_hashers(self.folder, name)

    def _fit_automatically(self) -> None:
        """Fit a hasher; embeddings that it cannot be fitted on remain searched exactly."""
        assert self._search is not None
        try:
            self.fit()
        except InvalidInputError as error:
            self._next_fit = 2 * self._search.size
            log.warning(
                "no hasher is fitted on %d embeddings, which are searched exactly: %s", self._search.size, error
            )

    def _save_hasher(self, hasher: Hasher, folder: Path | None) -> str | None:
        """Write a hasher into its own subfolder, and return its name."""
        if folder is None:
            return None
        name = f"{HASHER_FOLDER}{hasher.identity[:16]}"
        hasher.save(folder / name)
        return name

    def save(self, folder: str | Path) -> None:
        """Write a copy of the store into another folder; a store that is there is replaced in one step.

        A store with a folder needs no save: each change is on the disk when the call returns.

        Raises:
            InvalidInputError: the folder of an open store.
            StorageError: a folder that cannot be written.
        """
        target = Path(folder)
        with self._using():
            if self.folder is not None and target.resolve() == self.folder.resolve():
                return
            with lock_for_writing(target, str(target)):
                name = None if self.hasher is None else self._save_hasher(self.hasher, target)
                # The name of the hasher is in the database, which a store in memory has not written.
                with self.table.transaction():
                    self.table.write_settings({"hasher": name})
                write_whole(target / DATABASE_FILE, self.table.copy)
                remove_hashers(target, name)

    def close(self) -> None:
        """Close the database and let other processes open the folder."""
        with self.guard:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_hashers(folder: Path, kept: str | None) -> None:
    """Remove the subfolders of other hashers than the one of the database."""
    for path in folder.glob(f"{HASHER_FOLDER}*"):
        if path.name != kept and path.is_dir() and not path.is_symlink():
            with writing(path):
                shutil.rmtree(path)
