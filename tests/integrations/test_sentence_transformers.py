"""Codes as the output of a sentence-transformers model, and in place of its quantisation."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from deephash import ITQ, NPQ, Hasher
from deephash.affinity import EpsilonBall
from deephash.codes import swap_bit_order, unpack
from deephash.validation import InvalidInputError

pytest.importorskip("sentence_transformers", reason="needs pip install 'deephash[text]'")

from sentence_transformers import SentenceTransformer, quantize_embeddings
from sentence_transformers.util.quantization import semantic_search_faiss, semantic_search_usearch

from deephash.integrations.sentence_transformers import HashCodes, hash_embeddings, project_embeddings

QUERIES = ["Cain killed his brother", "the flood and the ark"]


@pytest.fixture(scope="module")
def hasher(embeddings):
    return Hasher(ITQ(384, 60)).fit(embeddings)


@pytest.fixture
def model(minilm):
    return SentenceTransformer(minilm, device="cpu")


@pytest.fixture
def random_hasher():
    rows = np.random.default_rng(0).normal(size=(200, 16)).astype("float32")
    return Hasher(ITQ(16, 12)).fit(rows), rows


def test_model_returns_the_hashers_codes(model, hasher, verses, embeddings, tmp_path):
    expected = hasher.encode(embeddings).numpy()
    bits = unpack(torch.from_numpy(expected), 60).numpy()
    model.append(HashCodes(hasher))
    signs = model.encode(verses)
    assert signs.dtype == np.float32
    assert np.array_equal(signs, np.where(bits, 1, -1))
    # The cosine of signs falls in steps of 2/b with the Hamming distance.
    distances = (bits[:1] != bits[:5]).sum(1)
    assert np.allclose(model.similarity(signs[:1], signs[:5])[0], 1 - 2 * distances / 60, atol=1e-6)
    assert np.array_equal(model.encode(verses, precision="ubinary"), np.packbits(bits, axis=1))
    assert model.get_embedding_dimension() == 60

    model.save_pretrained(str(tmp_path))
    listed = json.loads((tmp_path / "modules.json").read_text())[-1]
    assert listed["type"] == "deephash.integrations.sentence_transformers.HashCodes"
    assert {path.name for path in (tmp_path / listed["path"]).iterdir()} == {
        "config.json",
        "hasher.json",
        "weights.safetensors",
    }
    with pytest.raises(ValueError, match="trust_remote_code"):
        SentenceTransformer(str(tmp_path), device="cpu")
    loaded = SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    assert np.array_equal(loaded.encode(verses), signs)
    # Without the flag: the base model, and the module from its folder.
    base = SentenceTransformer(modules=list(loaded)[:-1])
    base.append(HashCodes.load(str(tmp_path), listed["path"]))
    assert np.array_equal(base.encode(verses[:3]), signs[:3])


@pytest.mark.ci
def test_another_process_needs_only_deephash_installed(model, hasher, verses, embeddings, tmp_path):
    model.append(HashCodes(hasher, "packed"))
    model.save_pretrained(str(tmp_path / "model"))
    program = (
        "import sys; from sentence_transformers import SentenceTransformer\n"
        f"model = SentenceTransformer({str(tmp_path / 'model')!r}, device='cpu', trust_remote_code=True)\n"
        "print(model.encode(sys.argv[1]).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program, verses[3]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == hasher.encode(embeddings)[3].tolist()


def test_packed_and_margins(model, hasher, verses, embeddings):
    model.append(HashCodes(hasher, "packed"))
    packed = model.encode(verses)
    assert packed.dtype == np.uint8
    assert np.array_equal(packed, hasher.encode(embeddings).numpy())
    assert model.get_embedding_dimension() == 8
    model[-1].output = "margins"
    margins = model.encode(verses[:10])
    assert np.allclose(margins, project_embeddings(embeddings[:10], hasher), atol=1e-5)
    assert np.array_equal(quantize_embeddings(margins, "ubinary"), hash_embeddings(embeddings[:10], hasher))


def test_training_reaches_the_model_and_the_hasher(model, hasher):
    model.append(HashCodes(hasher))
    model.train()
    features = model.preprocess(["In the beginning"])
    relaxed = model(features)["sentence_embedding"]
    assert relaxed.shape == (1, 60)
    relaxed.sum().backward()
    gradients = [parameter.grad is not None for name, parameter in model.named_parameters() if "pooler" not in name]
    assert all(gradients)
    assert any(name.endswith("hasher.projection.directions") for name, _ in model.named_parameters())


def test_layouts_are_those_of_quantize_embeddings(random_hasher):
    """Margins quantised by sentence-transformers are the codes, in each format and for single embeddings."""
    hasher, rows = random_hasher
    margins = project_embeddings(rows, hasher)
    for precision in ("ubinary", "binary"):
        expected = quantize_embeddings(margins, precision=precision)
        codes = hash_embeddings(rows, hasher, precision)
        assert codes.dtype == expected.dtype
        assert np.array_equal(codes, expected)
        assert np.array_equal(hash_embeddings(rows[0], hasher, precision), expected[0])
    little = hash_embeddings(rows, hasher, bit_order="little")
    assert np.array_equal(little, hasher.encode(rows).numpy())
    assert np.array_equal(little, swap_bit_order(hash_embeddings(rows, hasher)).numpy())
    assert np.array_equal(hash_embeddings(torch.from_numpy(rows), hasher, bit_order="little"), little)
    assert np.array_equal(hash_embeddings(list(rows.astype("float64")), hasher, bit_order="little"), little)
    assert np.array_equal(hash_embeddings([torch.tensor(row) for row in rows], hasher, bit_order="little"), little)
    for empty in ([], rows[:0]):
        assert hash_embeddings(empty, hasher).shape == (0, 2)


def test_faiss_and_usearch_find_by_learnt_codes(random_hasher):
    """Searches of sentence-transformers with our codes equal ours, in either bit order."""
    hasher, rows = random_hasher
    queries = rows[:5] + 0.05
    expected = hasher.search(queries, hasher.encode(rows), k=1)
    near = expected[0][:, 0].tolist()
    for order in ("big", "little"):
        codes, query_codes = (hash_embeddings(each, hasher, bit_order=order) for each in (rows, queries))
        found, _ = semantic_search_faiss(query_codes, codes, corpus_precision="ubinary", top_k=1, rescore=False)
        assert [int(hits[0]["score"]) for hits in found] == near
    pytest.importorskip("usearch")
    found, _ = semantic_search_usearch(query_codes, codes, corpus_precision="ubinary", top_k=1, rescore=False)
    assert [int(hits[0]["score"]) for hits in found] == near


def test_margins_as_queries_are_rescored(random_hasher):
    hasher, rows = random_hasher
    codes, margins = hash_embeddings(rows, hasher), project_embeddings(rows[:3], hasher)
    found, _ = semantic_search_faiss(margins, codes, corpus_precision="ubinary", top_k=5, rescore_multiplier=4)
    bits = np.unpackbits(codes, axis=1)[:, :12].astype(float)
    for query, hits in zip(margins, found, strict=True):
        assert np.allclose([hit["score"] for hit in hits], [query @ bits[hit["corpus_id"]] for hit in hits])
        # The item itself has the largest score of all codes.
        assert hits[0]["score"] == pytest.approx((bits @ query).max(), rel=1e-6)


def test_wrong_input_is_one_clear_error(random_hasher, tmp_path):
    hasher, rows = random_hasher
    with pytest.raises(InvalidInputError, match="not fitted"):
        HashCodes(Hasher(ITQ(16, 12)))
    with pytest.raises(InvalidInputError, match="output='bytes'; expected one of: margins, packed, signs"):
        HashCodes(hasher, "bytes")
    with pytest.raises(InvalidInputError, match="embeddings have 8 dimensions; expected 16"):
        hash_embeddings(rows[:, :8], hasher)
    with pytest.raises(InvalidInputError, match="NaN"):
        hash_embeddings(np.full((2, 16), np.nan), hasher)
    with pytest.raises(InvalidInputError, match="precision='int8'"):
        hash_embeddings(rows, hasher, "int8")
    with pytest.raises(InvalidInputError, match="bit_order"):
        hash_embeddings(rows, hasher, "binary", "little")
    quantizer = NPQ(12)
    other = Hasher(ITQ(16, quantizer.projection_dim), quantizer).fit(rows, affinity=EpsilonBall().fit(rows, None))
    with pytest.raises(InvalidInputError, match="quantiser is NPQ; margins are those of SBQ"):
        project_embeddings(rows, other)
    with pytest.raises(InvalidInputError, match="has no folder 'missing'"):
        HashCodes.load(str(tmp_path), "missing")
