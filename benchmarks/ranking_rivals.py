"""Competitors of the ranking benchmark: C loops, the common NumPy routine, and FAISS's flat binary index."""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import faiss
import numpy as np

FOLDER = Path(__file__).parent


def compile_c(source, *flags):
    """Compile a C file of this folder for this machine and load it."""
    library = f"{tempfile.mkdtemp()}/{source}.so"
    flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", *flags]
    subprocess.run(["cc", *flags, str(FOLDER / source), "-o", library], check=True)
    return ctypes.CDLL(library)


def compile_limit(bits, threads):
    """Compile the loop of vector intrinsics that decides which items are nearer than a limit.

    Returns:
        A function (query codes, database codes, limits int32 (q,)) → numbers of nearer items, int64 (q,). The number of
        queries is a multiple of 4.
    """
    function = compile_c("nearest_limit.c", f"-DBYTES={(bits + 7) // 8}").count_near
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, integer, pointer, integer, pointer, ctypes.c_int, pointer]

    def count_near(queries, database, limits):
        near = np.empty(len(queries), np.int64)
        function(
            queries.ctypes.data, len(queries), database.ctypes.data, len(database), limits.ctypes.data, threads,
            near.ctypes.data,
        )  # fmt: skip
        return near

    return count_near


def compile_histogram(bits, threads):
    """Compile the blocked single-pass popcount loop for this machine and code length.

    Returns:
        A function that pads codes to whole words, and one that counts distances of padded codes.
    """
    words = (bits + 63) // 64
    function = compile_c("popcount_histogram.c", f"-DWORDS={words}").histogram
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, integer, pointer, integer, integer, ctypes.c_int, pointer]

    def padded(codes):
        wide = np.zeros((len(codes), 8 * words), np.uint8)
        wide[:, : codes.shape[1]] = codes
        return wide

    def histogram(queries, database):
        total = np.empty((len(queries), bits + 1), np.int64)
        function(
            queries.ctypes.data, len(queries), database.ctypes.data, len(database), bits, threads, total.ctypes.data
        )
        return total

    return padded, histogram


def compute_numpy_metrics(query_signs, database_signs, query_labels, database_labels):
    """Compute mean AP and the area under the mean PR curve as most published code does: query by query, by argsort.

    Codes are ±1 and labels one-hot, both of one floating dtype. Distances and relevance are inner products, precision
    and recall cumulative sums.
    """
    bits, items = database_signs.shape[1], len(database_signs)
    ranks = np.arange(1, items + 1)
    average_precisions, areas = [], []
    for signs, labels in zip(query_signs, query_labels, strict=True):
        relevant = (database_labels @ labels > 0).astype(signs.dtype)
        distances = 0.5 * (bits - database_signs @ signs)
        relevant = relevant[np.argsort(distances)]
        hits = np.cumsum(relevant)
        if hits[-1]:
            precision, recall = hits / ranks, hits / hits[-1]
            average_precisions.append(precision[relevant == 1].mean())
            areas.append(np.trapezoid(precision, recall))
    return float(np.mean(average_precisions)), float(np.mean(areas))


def build_faiss_index(database, bits, threads):
    """Build an `IndexBinaryFlat` of packed codes whose length is a multiple of 8."""
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexBinaryFlat(bits)
    index.add(database)
    return index
