"""Compilation ahead: afterwards, rankings compile nothing."""

import subprocess
import sys

import pytest

from deephash.indexes import kernel_compilation
from deephash.ranking import numba_search
from deephash.validation import InvalidInputError

COMPILED_AHEAD = """
import torch
from deephash.indexes import kernel_compilation
from deephash.indexes.candidate_kernels import measure_listed, rank_candidates
from deephash.indexes.late_interaction import LateInteraction
from deephash.indexes.late_interaction_kernels import search_documents
from deephash.indexes.prefix import Prefix
from deephash.ranking.numba_kernels import count_relevant
from deephash.ranking.distance import Hamming
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.numba_search import search_nearest
from deephash.ranking.relevance import SharedLabel
kernel_compilation.BITS, kernel_compilation.ITQ_BITS = (64,), ()
kernel_compilation.compile_kernels()
used = (count_relevant, search_nearest, rank_candidates, measure_listed, search_documents)
before = [len(kernel.signatures) for kernel in used]
codes = [torch.randint(0, 256, (n, 6), dtype=torch.uint8) for n in (30, 500)]
for queries in (codes[0], codes[0][:2]):
    labels = [torch.ones(n, dtype=torch.int64) for n in (len(queries), 500)]
    NumbaEngine(1).rank(queries, codes[1], Hamming(48), SharedLabel(*labels))
    NumbaEngine(1).search(queries, codes[1], Hamming(48), 7)
wide = [torch.randint(0, 256, (n, 16), dtype=torch.uint8) for n in (3, 90)]
index = Prefix(wide[1], 128)
index.search(wide[0], 4), index.within(wide[0], 40), LateInteraction(wide[1], [0, 90]).search(wide[0], [0, 3], 1)
print(min(before) > 0, before == [len(kernel.signatures) for kernel in used])
"""


def test_nothing_is_left_to_compile():
    done = subprocess.run([sys.executable, "-c", COMPILED_AHEAD], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_kernels_that_would_not_remain_are_an_error(monkeypatch):
    monkeypatch.setattr(numba_search.search_nearest.stats.__class__, "cache_path", property(lambda stats: None))
    with pytest.raises(InvalidInputError, match="no folder for compiled kernels is writable; set NUMBA_CACHE_DIR"):
        kernel_compilation.compile_kernels()
