"""The transformer keeps scikit-learn's contract, and gives the hasher's codes."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from deephash.hashers.hasher import Hasher
from deephash.io.configuration import list_choices, read_choice
from deephash.projections.itq import ITQ
from deephash.quantizers.dbq import DBQ
from deephash.sklearn_transformer import HashingTransformer, convert_labels
from deephash.validation import InvalidInputError


@parametrize_with_checks(
    [HashingTransformer(method="lsh", bits=8), HashingTransformer(method="sklsh", bits=5, output="bits")]
)
def test_scikit_learns_contract(estimator, check):
    check(estimator)


@pytest.fixture
def blobs():
    draw = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 50)
    return draw.normal(size=(4, 12))[y] * 3 + draw.normal(size=(200, 12)), y


def test_codes_are_the_hashers(blobs):
    x, _ = blobs
    transformer = HashingTransformer("itq", 10, "dbq", seed=3, method_settings={"iterations": 7})
    features = torch.from_numpy(x.astype(np.float32))
    quantizer = DBQ(10)
    hasher = Hasher(ITQ(12, 5, iterations=7), quantizer).fit(features, generator=torch.Generator().manual_seed(3))
    codes = transformer.fit_transform(x)
    assert np.array_equal(codes, hasher.encode(features).numpy())
    bits = HashingTransformer("itq", 10, "dbq", 3, "bits", {"iterations": 7}).fit_transform(x)
    assert bits.shape == (200, 10)
    assert np.array_equal(np.packbits(bits, axis=1, bitorder="little"), codes)


def test_labels_in_a_pipeline_and_a_grid_search(blobs):
    x, y = blobs
    pipeline = make_pipeline(
        StandardScaler(), HashingTransformer("ksh", 8, output="bits"), KNeighborsClassifier(metric="hamming")
    )
    search = GridSearchCV(pipeline, {"hashingtransformer__bits": [2, 8]}, cv=2).fit(x, np.array(list("abcd"))[y])
    assert search.best_score_ > 0.9
    assert list(search.best_estimator_[1].get_feature_names_out()) == [
        f"hashingtransformer{place}" for place in range(search.best_params_["hashingtransformer__bits"])
    ]


def test_settings_of_a_choices_yaml_are_taken(blobs):
    x, y = blobs
    transformer = HashingTransformer("grh", 4, "npq_exact", quantizer_settings={"pairs_sample": 100}).fit(x, y)
    assert type(transformer.hasher_.quantizer.search).__name__ == "ExactSearch"
    assert transformer.hasher_.quantizer.pairs_sample == 100


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "itk"}, "method='itk'; expected one of:"),
        ({"method": "cvh"}, "method='cvh' is not a single projection; run deephash train method=cvh instead"),
        ({"method": "dpsh"}, "method='dpsh' is not a single projection"),
        ({"method_settings": {"rounds": 3}}, "method=itq has no setting 'rounds'; it has"),
        ({"method": "ksh"}, "ksh with sbq learns from labels; give y."),
        ({"output": "words"}, "output='words'; expected one of: bits, packed."),
        ({"bits": 0}, "bits=0; expected a whole number"),
    ],
)
def test_wrong_settings_are_refused_by_fit(blobs, settings, words):
    with pytest.raises(InvalidInputError, match=words):
        HashingTransformer(**{"bits": 4, **settings}).fit(blobs[0])


@pytest.mark.parametrize("dtype", [np.int64, np.float64, bool])
def test_one_hot_labels_are_classes_and_several_labels_are_an_indicator(blobs, dtype):
    x, y = blobs
    one_hot = np.eye(6)[y].astype(dtype)  # Two of its classes have no item.
    expected = HashingTransformer("itq_cca", 3, seed=1).fit_transform(x, y)
    assert np.array_equal(HashingTransformer("itq_cca", 3, seed=1).fit_transform(x, one_hot), expected)
    assert np.array_equal(HashingTransformer("itq_cca", 3, seed=1).fit_transform(x, y[:, None]), expected)
    several = one_hot.copy()
    several[::7, 5] = 1
    labels = convert_labels(several, len(x))
    assert labels.dtype == torch.bool
    assert labels.shape == (200, 6)
    with pytest.raises(InvalidInputError, match=r"y have 199 rows; expected 200"):
        HashingTransformer("itq_cca", 3).fit(x, one_hot[1:])
    with pytest.raises(InvalidInputError, match=r"y contain 2.* in row 0"):
        HashingTransformer("itq_cca", 3).fit(x, 2.0 * one_hot)


def test_classes_that_are_missing_or_do_not_sort_are_refused(blobs):
    x, y = blobs
    with pytest.raises(InvalidInputError, match="y contains NaN; give every item a class"):
        HashingTransformer("ksh", 4).fit(x, np.where(y == 0, np.nan, y))
    with pytest.raises(InvalidInputError, match="y contains values of several types"):
        HashingTransformer("ksh", 4).fit(x, np.array([None, "a", 3, 4, 5, 6], dtype=object)[y])


def test_settings_of_shared_files_are_read():
    settings, other_groups = read_choice(list_choices("method")["djsrh"])
    assert settings["projection"]["_target_"] == "deephash.projections.paired.CVH"
    assert other_groups["train"] == "joint"
