"""Text collections in the file layout of BEIR and MTEB."""

import json
import logging
from pathlib import Path
from typing import Any, final

from deephash.data.judged_base import TEST, TRAINING, VALIDATION, Collection, JudgedData
from deephash.data.protocols.base import Protocol, Split
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.io.files import format_missing_path, reading
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)

LAYOUT = "a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv, as of BEIR"
FILES = {TRAINING: "train.tsv", VALIDATION: "dev.tsv", TEST: "test.tsv"}
"""File of the judgements of each part of the queries, in the folder qrels."""
TEXTS = {"query": "queries.jsonl", "passage": "corpus.jsonl"}
COLUMNS = "query-id, corpus-id, score"


@final
class BEIR(JudgedData):
    """A text collection in the layout of BEIR: passages, queries, and judgements of their relevance.

    `corpus.jsonl` has a passage in each line, {"_id": "p1", "title": "...", "text": "..."}, and `queries.jsonl` a
    query, {"_id": "q1", "text": "..."}. The title, which may be missing, and the text of a passage are joined by a
    space. `qrels/test.tsv` has a judgement in each line, with a heading: query-id, corpus-id and a whole score,
    separated by tabs. Scores are grades of relevance, and those below 1 are not relevant. `qrels/train.tsv` and
    `qrels/dev.tsv` may be missing: training learns from the first, and the second has validation queries. Queries
    without judgements are left out. A test query without a relevant passage counts as skipped.

    Known weakness: a passage that is itself the query, as in Quora or ArguAna, is ranked like any other, and BEIR's own
    evaluation leaves it out.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: folder of the files.
        text_descriptor: computes and caches the features of texts.
        query_prefix: text before each query, such as "query: ", as some models need.
        passage_prefix: text before each passage, such as "passage: ".
        cache: folder of computed features.

    Raises:
        InvalidInputError: no path; in `load`, a missing or malformed file, an id that occurs twice, or a judgement of a
            query or passage that is not in the files.

    References:
        Thakur, Reimers, Rücklé, Srivastava & Gurevych, "BEIR: a heterogeneous benchmark for zero-shot evaluation of
        information retrieval models", NeurIPS 2021 (datasets and benchmarks).
    """

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        path: str,
        text_descriptor: TextDescriptor,
        query_prefix: str = "",
        passage_prefix: str = "",
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        if not path:
            raise InvalidInputError(f"path={path!r}; give the folder of the collection: data.path=FOLDER, {LAYOUT}.")
        super().__init__(protocol, seed, split, path, text_descriptor, query_prefix, passage_prefix, cache)

    def read_collection(self) -> Collection:
        """Read the files of the folder."""
        passages = read_texts(self.path / TEXTS["passage"], ("title", "text"))
        queries = read_texts(self.path / TEXTS["query"], ("text",))
        judgements: dict[str, dict[tuple[str, str], int]] = {}
        sources: dict[str, str] = {}
        for part, name in FILES.items():
            file = self.path / "qrels" / name
            if part != TEST and not file.exists():
                continue
            judgements[part] = read_judgements(file)
            for query, passage in judgements[part]:
                for kind, key, texts in (("query", query, queries), ("passage", passage, passages)):
                    if key not in texts:
                        raise InvalidInputError(
                            f"{file} judges the {kind} {key!r}, which is not in {TEXTS[kind]}; add its text, or remove "
                            "its judgements."
                        )
                if sources.setdefault(query, name) != name:
                    raise InvalidInputError(
                        f"query {query!r} is in qrels/{sources[query]} and in qrels/{name}; remove it from one, so "
                        "that nothing is learnt from a query that is scored."
                    )
        unused = len(queries) - len(sources)
        if unused:
            log.info("%d of %d queries have no judgements and are left out", unused, len(queries))
        return Collection(passages, queries, judgements)


def read_texts(file: Path, fields: tuple[str, ...]) -> dict[str, str]:
    """Read texts by id from a file with a JSON object in each line.

    Args:
        file: the file.
        fields: names of the fields that make the text; all but the last may be missing.

    Raises:
        InvalidInputError: a missing file, a line that is not such an object, or an id that occurs twice.
    """
    texts: dict[str, str] = {}
    for line, row in read_json_lines(file):
        values = [row.get(name) or "" for name in fields]
        key = row.get("_id")
        if not isinstance(key, str) or fields[-1] not in row or not all(isinstance(value, str) for value in values):
            raise InvalidInputError(
                f"{file}, line {line}, has the fields {', '.join(row) or 'none'}; expected strings _id and "
                f"{' and '.join(fields)}."
            )
        if key in texts:
            raise InvalidInputError(f"{file}, line {line}, has the _id {key!r} a second time; give each text its own.")
        texts[key] = " ".join(value for value in values if value)
    if not texts:
        raise InvalidInputError(f"{file} is empty; expected a JSON object with an _id in each line.")
    return texts


def read_json_lines(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects of a JSON Lines file with the numbers of their lines; empty lines are skipped.

    Raises:
        InvalidInputError: a missing file, or a line that is not a JSON object.
    """
    check_exists(file)
    rows = []
    with reading(file, "JSON Lines in UTF-8", "save it as such"), file.open(encoding="utf-8-sig") as stream:
        lines = [line.strip() for line in stream]
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            if "\\u" in line:  # Half of a surrogate pair is no character, and cannot be stored.
                json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(
                f"{file}, line {number}, is not JSON ({error}); expected an object in each line."
            ) from error
        if not isinstance(row, dict):
            raise InvalidInputError(f"{file}, line {number}, is not a JSON object; expected one in each line.")
        rows.append((number, row))
    return rows


def read_judgements(file: Path) -> dict[tuple[str, str], int]:
    """Read grades by query id and passage id from a file of three columns.

    Raises:
        InvalidInputError: a missing file, another number of columns, a score that is not a whole number, a pair that
            occurs twice with different scores, or no judgements.
    """
    check_exists(file)
    with reading(file, "judgements in UTF-8", "save it as such"), file.open(encoding="utf-8-sig") as stream:
        lines = [line.rstrip("\r\n").split("\t") for line in stream]
    grades: dict[tuple[str, str], int] = {}
    first = True
    for number, cells in enumerate(lines, 1):
        if cells == [""]:
            continue
        may_be_heading, first = first, False
        grade = to_grade(cells[-1])
        if len(cells) != 3 or (grade is None and not may_be_heading):
            raise InvalidInputError(
                f"{file}, line {number}, is {cells}; expected {COLUMNS}, separated by tabs, with a whole score."
            )
        if grade is None:  # the heading
            continue
        if grades.setdefault((cells[0], cells[1]), grade) != grade:
            raise InvalidInputError(
                f"{file}, line {number}, judges query {cells[0]!r} and passage {cells[1]!r} again, with another score; "
                "keep one."
            )
    if not grades:
        raise InvalidInputError(f"{file} has no judgements; expected lines of {COLUMNS}.")
    return grades


def to_grade(text: str) -> int | None:
    """Return a whole number of int32 in a text, such as 2 or 2.0; None if there is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and abs(value) < 2**31 else None


def check_exists(file: Path) -> None:
    """Raise an error for a missing file that names the layout."""
    if not file.is_file():
        raise InvalidInputError(f"{format_missing_path(file)} does not exist; give {LAYOUT}.")
