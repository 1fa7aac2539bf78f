"""Pairs of two views for the tests of several methods, drawn and real."""

import numpy as np
import pytest
import torch

from deephash.affinity.label import Label
from deephash.codes import hard_bits, pack
from deephash.data.views import Views
from deephash.metrics.average_precision import average_precision
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.distance import Hamming
from deephash.ranking.relevance import SharedLabel


@pytest.fixture(scope="session")
def noisy_pairs():
    """Makes float64 pairs of three classes, images of 7 dimensions and texts of 3, and their labels."""

    def make(n=90, seed=0):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(n) % 3
        centres = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        common = centres[labels] + 0.5 * torch.randn(n, 4, generator=generator, dtype=torch.float64)
        features = {}
        for name, d in (("image", 7), ("text", 3)):
            maps = torch.randn(4, d, generator=generator, dtype=torch.float64)
            features[name] = common @ maps + 0.3 * torch.randn(n, d, generator=generator, dtype=torch.float64) + 2
        return Views(features), labels

    return make


@pytest.fixture
def wiki_scores(real_data):
    """mAP@all of a method on Wiki's published split, image to text and text to image, under label truth."""

    def score(method_class, bits):
        with np.load(real_data / "wiki.npz", allow_pickle=False) as stored:
            part = {name: torch.from_numpy(stored[name]) for name in stored.files if name != "class_names"}
        train = Views({view: part[f"{view}_train"] for view in ("image", "text")})
        labels = part["label_train"]
        method = method_class(train.dimensions, bits)
        affinity = Label().supervise(train, labels)
        method.fit(train, labels=labels, affinity=affinity, generator=torch.Generator().manual_seed(0))

        def codes(view, name):
            return pack(hard_bits(method.view(view)(part[f"{view}_{name}"])))

        relevance = SharedLabel(part["label_test"], labels)
        scores = []
        for query, database in (("image", "text"), ("text", "image")):
            counts = AutoEngine().rank(codes(query, "test"), codes(database, "train"), Hamming(bits), relevance)
            scores.append(float(average_precision(counts).mean()))
        return scores

    return score
