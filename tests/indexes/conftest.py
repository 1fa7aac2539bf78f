"""Codes for the tests of indexes: clustered, so that there are near items and ties."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import deephash

sys.path.insert(0, str(Path(__file__).parent))  # for item_list

# Packages of the kinds that extras install.
OPTIONAL = {"usearch": "usearch", "duckdb": "duckdb", "lancedb": "lancedb", "pgvector": "psycopg"}


def clustered(rows, bits, seed, centres=40, flipped=0.08, centre_seed=7):
    """Codes around a few random centres, uint8 (rows, ⌈bits/8⌉): what a hasher makes of items of some classes."""
    centre = np.random.default_rng(centre_seed).random((centres, bits)) < 0.5
    rng = np.random.default_rng(seed)
    found = centre[rng.integers(0, centres, rows)] ^ (rng.random((rows, bits)) < flipped)
    return torch.from_numpy(np.packbits(found, axis=1, bitorder="little"))


@pytest.fixture(scope="session")
def clustered_codes():
    return clustered


@pytest.fixture
def build(request):
    """A function that builds an index of a kind; of pgvector in a table of the test's own, dropped after it."""
    tables = []

    def built(kind, codes, bits, **settings):
        if kind in OPTIONAL:
            pytest.importorskip(OPTIONAL[kind], reason=f"needs pip install 'deephash[{kind}]'")
        if kind == "gpu":
            settings.setdefault("device", "cpu")
        if kind != "pgvector":
            return deephash.index(codes, kind, bits=bits, **settings)
        tables.append(f"codes_{len(tables)}")
        return deephash.index(
            codes, kind, bits=bits, dsn=request.getfixturevalue("postgres"), table=tables[-1], **settings
        )

    yield built
    if tables:
        import psycopg

        with psycopg.connect(request.getfixturevalue("postgres")) as connection:
            for table in tables:
                connection.execute(psycopg.sql.SQL("DROP TABLE IF EXISTS {}").format(psycopg.sql.Identifier(table)))
