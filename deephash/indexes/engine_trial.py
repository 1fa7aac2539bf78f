"""A separate program that opens and searches an engine's file, because a damaged file can crash its reader.

Run as `python engine_trial.py ENGINE FILE CODES MEMORY`. It does not import deephash, which is slow to import. The last
line of its standard error states the fault. Damage in parts of the file that no query of the trial reads is not found.
"""

import sys
from pathlib import Path

import numpy as np

QUERIES, NEIGHBOURS = 256, 10


def try_faiss(path: Path, codes: np.ndarray) -> None:
    """Check the codes and ids of a binary FAISS index, then search it; FAISS itself checks the links of a graph."""
    import faiss

    index = faiss.read_index_binary(str(path))
    check(index.ntotal == len(codes) and index.d == 8 * codes.shape[1], "it holds other codes")
    if isinstance(index, faiss.IndexBinaryIVF):
        lists = index.invlists
        check(index.nlist == lists.nlist == index.quantizer.ntotal, "its numbers of lists and centres differ")
        check(lists.code_size == codes.shape[1], "its lists hold other codes")
        seen = np.zeros(len(codes), bool)
        for place in range(index.nlist):
            size = lists.list_size(place)
            ids = faiss.rev_swig_ptr(lists.get_ids(place), size) if size else np.empty(0, np.int64)
            check_ids(ids, len(codes))
            seen[ids] = True
        check(bool(seen.all()), "it lacks items")
        index.nprobe = index.nlist
    queries, k = sample(codes)
    check_ids(index.search(queries, k)[1], len(codes))


def try_usearch(path: Path, codes: np.ndarray) -> None:
    """Check the keys of a USearch graph, then search it."""
    from usearch.index import Index

    index = Index(ndim=8 * codes.shape[1], metric="hamming", dtype="b1")
    index.load(str(path))
    check(len(index) == len(codes) and index.ndim == 8 * codes.shape[1], "it holds other codes")
    check_ids(np.array(index.keys).astype(np.int64), len(codes))
    queries, k = sample(codes)
    found = index.search(queries, k, threads=1)
    check_ids(np.atleast_2d(found.keys)[:, :1].astype(np.int64), len(codes))
    stored = index.get(np.linspace(0, len(codes) - 1, min(QUERIES, len(codes))).astype(np.int64))
    check(np.array_equal(np.asarray(stored), queries), "it holds other codes")


def try_duckdb(path: Path, codes: np.ndarray) -> None:
    """Check that a DuckDB database contains a table of codes, and not a view that could read other files."""
    import duckdb

    words = -(-codes.shape[1] // 8)
    with duckdb.connect(config={"autoload_known_extensions": False, "autoinstall_known_extensions": False}) as opened:
        quoted = str(path).replace("'", "''")
        opened.execute(f"ATTACH '{quoted}' AS saved (READ_ONLY)")
        opened.execute("SET enable_external_access = false")
        kinds = opened.execute(
            "SELECT column_name, data_type FROM duckdb_columns() JOIN duckdb_tables() AS tables "
            "USING (database_name, table_oid) "
            "WHERE database_name = 'saved' AND tables.schema_name = 'main' AND tables.table_name = 'codes'"
        ).fetchall()
        expected = {"id": "BIGINT"} | {f"w{place}": "UBIGINT" for place in range(words)}
        check(expected.items() <= dict(kinds).items(), "it holds no table of codes")
        distinct = opened.execute("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM saved.codes").fetchone()
        check(distinct == (len(codes), len(codes), 0, len(codes) - 1), "its ids are not those of the codes")


def sample(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Return evenly spaced codes as queries, and the number of neighbours to search for."""
    places = np.linspace(0, len(codes) - 1, min(QUERIES, len(codes))).astype(np.int64)
    return np.ascontiguousarray(codes[places]), min(NEIGHBOURS, len(codes))


def check_ids(ids: np.ndarray, size: int) -> None:
    """Raise an error if ids are outside the database; -1 means not found."""
    check(not ids.size or (int(ids.min()) >= -1 and int(ids.max()) < size), f"it has ids beyond its {size} items")


def check(is_valid: bool, reason: str) -> None:
    """Raise ValueError with the reason if the file is not valid."""
    if not is_valid:
        raise ValueError(reason)


def limit_memory(allowed: int) -> None:
    """Limit the memory of this process to its current size plus `allowed` bytes, if the system supports a limit."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + allowed, used + allowed))
    except (ImportError, OSError, ValueError):
        return


TRIALS = {"faiss": try_faiss, "usearch": try_usearch, "duckdb": try_duckdb}

if __name__ == "__main__":
    engine, file, codes_file, allowed_bytes = sys.argv[1:]
    __import__("usearch.index" if engine == "usearch" else engine)
    limit_memory(int(allowed_bytes))
    TRIALS[engine](Path(file), np.load(codes_file, mmap_mode="r", allow_pickle=False))
