"""Inputs of every kind, as tensors or plain numbers, give the same hasher and the same codes."""

import json

import numpy as np
import pytest
import torch

import deephash
from deephash import Hasher
from deephash.affinity.label import Label
from deephash.affinity.nearest_neighbours import NearestNeighbours
from deephash.codes import pack, unpack
from deephash.compression.asymmetric_scan import AsymmetricScan
from deephash.compression.linear_decoder import LinearDecoder
from deephash.conversion import as_floating, to_plain_number
from deephash.data.views import Views
from deephash.encoders.mlp import MLP
from deephash.indexes.build_index import index_class
from deephash.indexes.rescoring import FloatVectors, Int8Vectors, Margins
from deephash.indexes.two_stage import TwoStage
from deephash.metrics.average_precision import average_precision_at
from deephash.metrics.hamming_retrieval import HammingRetrieval
from deephash.projections.itq import ITQ
from deephash.projections.itq_cca import ITQCCA
from deephash.projections.lsh import LSH
from deephash.projections.online.streaming_itq_cca import StreamingITQCCA
from deephash.projections.paired.cvh import CVH
from deephash.quantizers.mhq import MHQ
from deephash.quantizers.sbq import SBQ
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.distance import Hamming, Manhattan
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.relevance import Neighbours, SharedLabel
from deephash.sklearn_transformer import HashingTransformer
from deephash.validation import InvalidInputError

ROWS, DIMENSION, BITS = 60, 6, 4


@pytest.fixture
def features():
    """Whole numbers, which every type below holds exactly."""
    return torch.randint(0, 100, (ROWS, DIMENSION), generator=torch.Generator().manual_seed(0)).float()


def read_only(array):
    array.flags.writeable = False
    return array


def mapped(array, folder):
    np.save(folder / "rows.npy", array)
    return np.load(folder / "rows.npy", mmap_mode="r")


def bfloat16(array):
    return array.astype(pytest.importorskip("ml_dtypes").bfloat16)


def frame(columns):
    return pytest.importorskip("pandas").DataFrame(columns)


# Each kind of matrix that users have, from float32 rows and a folder.
KINDS = {
    "array": lambda array, _: array,
    "float64": lambda array, _: array.astype(np.float64),
    "float16": lambda array, _: array.astype(np.float16),
    "bfloat16": lambda array, _: bfloat16(array),
    "long double": lambda array, _: array.astype(np.longdouble),
    "reversed": lambda array, _: array[::-1].copy()[::-1],
    "columns reversed": lambda array, _: array[:, ::-1].copy()[:, ::-1],
    "big-endian": lambda array, _: array.astype(">f4"),
    "by columns": lambda array, _: np.asfortranarray(array),
    "every other": lambda array, _: np.repeat(array, 2, 0)[::2],
    "uint8": lambda array, _: array.astype(np.uint8),
    "big-endian int64": lambda array, _: array.astype(">i8"),
    "uint32": lambda array, _: array.astype(np.uint32),
    "objects": lambda array, _: array.astype(object),
    "read-only": lambda array, _: read_only(array.copy()),
    "memory map": mapped,
    "big-endian memory map": lambda array, folder: mapped(array.astype(">f8"), folder),
    "frame": lambda array, _: frame(array),
    "frame of types": lambda array, _: frame(array).astype({0: np.int64, 1: np.float64}),
    "lists": lambda array, _: array.tolist(),
    "list of arrays": lambda array, _: list(array),
    "list of tensors": lambda array, _: list(torch.from_numpy(array)),
    "int64 tensor": lambda array, _: torch.from_numpy(array).long(),
    "half tensor": lambda array, _: torch.from_numpy(array).half(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_hasher_takes_every_kind_of_matrix(kind, features, tmp_path):
    given = KINDS[kind](features.numpy(), tmp_path)
    expected = Hasher(ITQ(DIMENSION, BITS), SBQ(BITS)).fit(features)
    codes = expected.encode(features)
    fitted = Hasher(ITQ(DIMENSION, BITS), SBQ(BITS)).fit(given)
    assert torch.equal(fitted.encode(features), codes)
    assert torch.equal(expected.encode(given, block_size=7), codes)
    torch.testing.assert_close(expected.project(given), expected.project(features))
    assert torch.equal(as_floating(given).double(), features.double()), "the same numbers"


def test_what_can_share_its_memory_does(features, tmp_path):
    for kind in ("array", "read-only", "every other", "by columns", "memory map"):
        array = KINDS[kind](features.numpy(), tmp_path)
        assert as_floating(array).data_ptr() == array.__array_interface__["data"][0], kind


def test_a_memory_map_is_encoded_block_by_block(features, tmp_path, monkeypatch):
    rows = mapped(features.numpy().astype(">f8"), tmp_path)
    hasher = Hasher(ITQ(DIMENSION, BITS), SBQ(BITS)).fit(features)
    sizes = []
    monkeypatch.setattr(
        "deephash.hashers.row_blocks.to_floating", lambda block: sizes.append(len(block)) or as_floating(block)
    )
    hasher.encode(rows, block_size=25)
    assert sizes == [25, 25, 10]


def within_itself():
    endless = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("rows", "are a str; give a torch.Tensor, an array or nested lists"),
        ({"a": [1.0]}, "are a dict"),
        ([[1.0], [2.0, 3.0]], "are not an array of numbers"),
        (np.array([["1.0"]]), "are of dtype <U3; give numbers"),
        (np.array([[1 + 1j]]), "are of dtype complex128; give numbers"),
        (np.array([["2026-01-01"]], "datetime64[D]"), r"are of dtype datetime64\[D\]"),
        (np.ma.masked_array([[1.0, 2.0]], [[True, False]]), "are a masked array, and some values are masked"),
        (torch.eye(3).to_sparse(), "are a tensor of layout torch.sparse_coo; give a dense one"),
        (torch.nn, "are a module; give numbers"),
        ([[1.0, None]], "are of dtype object"),
        (np.ones(3), r"have shape \(3,\); expected two axes"),
        (np.array([[10**400, 1]], dtype=object), "contain a number that is too large for float64"),
        (torch.ones(2, 2, device="meta"), "are a tensor that is without values"),
        (within_itself(), "are not an array of numbers"),
        (np.array([[1.0, np.nan]] * 3, ">f4"), "contain NaN or infinity in 3 of 3 rows, the first at row 0"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused_in_one_line(given, message):
    hasher = Hasher(ITQ(2, 1), SBQ(1))
    with pytest.raises(InvalidInputError, match=f"training features {message}") as refusal:
        hasher.fit(given)
    assert "\n" not in str(refusal.value)
    with pytest.raises(InvalidInputError):
        hasher.project(given)


def test_a_frame_that_holds_words_is_refused():
    with pytest.raises(InvalidInputError, match="training features are of dtype object"):
        Hasher(ITQ(2, 1), SBQ(1)).fit(frame({"a": [1.0], "b": ["x"]}))


def test_sparse_matrices_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    for matrix in (sparse.eye(3).tocsr(), sparse.coo_array(np.eye(3))):
        with pytest.raises(InvalidInputError, match=r"are a sparse \w+; give a dense array, e.g. values.toarray()"):
            Hasher(ITQ(3, 1), SBQ(1)).fit(matrix)


@pytest.mark.parametrize("labels_type", [np.int32, np.uint8, ">i8", list, "bool"])
def test_labels_of_every_kind(labels_type, features):
    labels = torch.arange(ROWS) % 3
    if labels_type == "bool":
        given = expected = (labels[:, None] == torch.arange(3)).numpy()
    else:
        given = labels.tolist() if labels_type is list else labels.numpy().astype(labels_type)
        expected = labels
    one = Hasher(ITQCCA(DIMENSION, BITS), SBQ(BITS)).fit(features.numpy(), labels=given)
    other = Hasher(ITQCCA(DIMENSION, BITS), SBQ(BITS)).fit(features, labels=torch.as_tensor(expected))
    assert one.identity == other.identity
    streamed = Hasher(StreamingITQCCA(DIMENSION, BITS), SBQ(BITS))
    streamed.partial_fit(features.numpy()[::-1], labels=given[::-1])
    streamed.partial_fit(features.tolist(), labels=given)
    assert int(streamed.projection.seen) == 2 * ROWS


def test_numpys_numbers_are_settings(features):
    """Whole numbers of one byte overflow where they are calculated with."""
    bits = np.uint8(252)
    quantizer = MHQ(bits, np.int64(4))
    itq = ITQ(np.int32(DIMENSION), np.uint8(BITS), iterations=np.int16(3))
    assert quantizer.distance == Manhattan(np.int8(63), np.int8(4)) == Manhattan(63, 4)
    assert Manhattan(np.uint8(63), np.uint8(8)).maximum == 63 * 255
    hasher = Hasher(
        itq, SBQ(np.uint8(BITS)), MLP(np.int64(DIMENSION), [np.int64(8), np.uint8(DIMENSION)], np.float32(0.5))
    )
    assert json.loads(json.dumps(hasher.describe())) == hasher.describe()
    assert type(hasher.bits) is int
    hasher.fit(features)
    assert torch.equal(hasher.encode(features, block_size=np.uint8(200)), hasher.encode(features))
    assert type(to_plain_number(np.longdouble(0.5))) is float
    with pytest.raises(InvalidInputError, match="output_dim=True; expected a whole number"):
        ITQ(DIMENSION, np.bool_(True))
    transformer = HashingTransformer(bits=np.uint8(BITS), seed=np.int64(3), method_settings={"iterations": np.int64(2)})
    codes = transformer.fit_transform(features.numpy())
    plain = HashingTransformer(bits=BITS, seed=3, method_settings={"iterations": 2})
    assert (codes == plain.fit_transform(features.numpy())).all()


def test_indexes_and_engines_take_arrays_and_numpys_numbers(features, tmp_path):
    codes = Hasher(ITQ(DIMENSION, BITS), SBQ(BITS)).fit(features).encode(features)
    index = deephash.index(codes, "flat", bits=np.int64(BITS))
    distances, ids = index.search(codes[:3], 5)
    for given in (codes.numpy()[:3], mapped(codes.numpy(), tmp_path)[:3], codes[:3].tolist()):
        found = index.search(given, np.uint8(5))
        assert torch.equal(found[0], distances)
        assert torch.equal(found[1], ids)
        assert torch.equal(index.within(given, np.int64(1)).ids, index.within(codes[:3], 1).ids)
    with pytest.raises(InvalidInputError, match="query codes contain 0 to 256; packed codes are bytes"):
        index.search([[0], [256]], 1)
    reverse = deephash.index(codes.numpy()[::-1], "flat", bits=BITS)
    assert torch.equal(reverse.search(codes[:3], 5)[0], distances)

    engine, labels = NumbaEngine(np.int64(1)), np.arange(ROWS) % 3
    relevance = SharedLabel(labels[:3], labels.astype(np.int32))
    counts = engine.rank(codes.numpy()[:3], codes.numpy(), Hamming(np.int64(BITS)), relevance)
    assert torch.equal(engine.search(codes.numpy()[:3], codes.numpy(), Hamming(BITS), np.int64(5))[1], ids)
    metric = HammingRetrieval(np.int64(BITS), at=np.array([2]), radii=[np.int8(1)])
    metric.update(counts, torch.arange(3))
    assert "mAP@2" in metric.compute()
    again = DistanceCounts(counts.total.numpy(), counts.relevant.numpy())
    assert torch.equal(average_precision_at(again, np.int64(4)), average_precision_at(counts, 4))
    assert Neighbours(np.array([0, 1]), np.array([2]), np.int64(3)).ids.tolist() == [2]


@pytest.mark.parametrize("kind", ["mih", "usearch", "faiss_flat", "faiss_ivf", "faiss_multi_hash", "duckdb"])
def test_the_class_of_every_index_takes_arrays_and_tensors_of_one_number(kind, features):
    codes = pack(features >= 50)
    found = index_class(kind)
    engine = kind if kind in ("usearch", "duckdb") else "faiss"
    if kind != "mih":
        pytest.importorskip(engine)
    distances = found(codes.numpy()[::-1], DIMENSION).search(codes.numpy()[:2], torch.tensor(3))[0]
    assert torch.equal(distances, found(codes.flip(0), DIMENSION).search(codes[:2], 3)[0])


@pytest.mark.parametrize("given", [np.full((2, 3), 2), np.array([[1, -1]]), np.ones((2, 3)), np.ones(3, bool)])
def test_bits_that_are_not_0_or_1_are_not_packed(given):
    with pytest.raises(InvalidInputError, match=r"^bits have (dtype .*; expected truth values|shape \(3,\); expected)"):
        pack(given)
    assert torch.equal(pack(np.eye(2, dtype=int)), pack(np.eye(2, dtype=bool)))


@pytest.mark.parametrize("bits", [65_537, 10**9, 10**30])
def test_a_length_that_would_fill_the_memory_is_refused_before_it_does(bits):
    for build in (SBQ, Hamming, lambda value: LSH(8, value), lambda value: CVH({"image": 8, "text": 8}, value)):
        with pytest.raises(InvalidInputError, match=rf"={bits}; expected a whole number from 1 to 65536"):
            build(bits)
    assert SBQ(65_536).bits == 65_536


def test_rescoring_takes_arrays_of_every_kind(features, tmp_path):
    codes = pack(features >= 50)
    queries = features[:3] + 0.5
    expected = TwoStage(deephash.index(codes, "flat"), FloatVectors(features), factor=60).search(codes[:3], queries, 4)
    for kind in ("array", "reversed", "big-endian", "read-only", "memory map", "half tensor", "bfloat16", "lists"):
        vectors = KINDS[kind](features.numpy(), tmp_path)
        search = TwoStage(deephash.index(codes.numpy(), "flat"), FloatVectors(vectors), factor=np.int64(60))
        _, ids = search.search(codes.numpy()[:3], KINDS["big-endian"](queries.numpy(), tmp_path), np.int64(4))
        assert torch.equal(ids, expected[1]), kind
    bfloat = FloatVectors(features.bfloat16(), "cosine")
    assert bfloat.scores(codes[:1], queries[:1], torch.tensor([[0, 1]])).shape == (1, 2)
    Int8Vectors.of(features.numpy())
    Margins(codes.numpy(), DIMENSION)
    decoder = LinearDecoder.fit(codes.numpy(), features.numpy(), np.int64(DIMENSION))
    reverse = AsymmetricScan(codes.numpy()[::-1], decoder).search(queries.numpy(), np.int64(2))[0]
    torch.testing.assert_close(reverse, AsymmetricScan(codes, decoder).search(queries, 2)[0])


def test_codes_views_and_affinities_take_arrays(features):
    bits = features.numpy() >= 50
    codes = pack(bits)
    assert torch.equal(unpack(codes.numpy(), np.int64(DIMENSION)), torch.from_numpy(bits))
    views = Views({"image": features.numpy(), "text": features.tolist()}, {"image": [1] * ROWS, "text": [1] * ROWS})
    assert views.dimensions == {"image": DIMENSION, "text": DIMENSION}
    with pytest.raises(InvalidInputError, match=r"text features have shape \(60,\); expected two axes"):
        Views({"image": features, "text": features[:, 0]})
    labels = np.arange(ROWS) % 3
    among = Label().fit(features.numpy(), labels).supervise(features.numpy(), labels).among(torch.arange(2))
    assert torch.equal(among[0], torch.from_numpy(labels == 0))
    near = NearestNeighbours(np.int64(2)).relevance(features.numpy()[:2], None, features.numpy(), None)
    assert near.ids.shape == (4,)
