"""Your own pairs of a query and a relevant passage, such as questions and answers or titles and texts."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import numpy as np

from deephash.data.beir import read_json_lines
from deephash.data.judged_base import TEST, TRAINING, VALIDATION, Collection, JudgedData
from deephash.data.protocols.base import Protocol, Split
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.io.files import format_missing_path, reading
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError, check_whole, is_number

LAYOUT = "a .jsonl or .parquet file with a pair of texts in each row"


@final
class TextPairs(JudgedData):
    """Pairs of a query and a relevant passage, as a collection that is split by queries.

    The distinct passages of all pairs are searched, and a query's passages are relevant with grade 1. Distinct queries
    are drawn for testing and for validation, and training learns from the pairs of the others. A query with several
    rows is in one part, so that nothing is learnt from a query that is scored; its passages may also be those of
    training queries.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: a file of JSON Lines or Parquet.
        text_descriptor: computes and caches the features of texts.
        query_key: name of the column of queries.
        passage_key: name of the column of passages.
        test: share of the queries that are scored.
        validation: share of the queries that choose the epoch or settings; 0 for none.
        split_seed: seed of these draws.
        query_prefix: text before each query, such as "query: ", as some models need.
        passage_prefix: text before each passage, such as "passage: ".
        cache: folder of computed features.

    Raises:
        InvalidInputError: no path, or invalid shares; in `load`, a missing or malformed file, an empty text, or too few
            queries for the shares.
    """

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        path: str,
        text_descriptor: TextDescriptor,
        query_key: str = "query",
        passage_key: str = "passage",
        test: float = 0.1,
        validation: float = 0.05,
        split_seed: int = 0,
        query_prefix: str = "",
        passage_prefix: str = "",
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        if not path:
            raise InvalidInputError(f"path={path!r}; give the file of your pairs: data.path=FILE, {LAYOUT}.")
        for name, share, least in (("test", test, "above 0"), ("validation", validation, "at least 0")):
            if not is_number(share) or not 0 <= share < 1 or (name == "test" and not share):
                raise InvalidInputError(f"{name}={share!r}; expected a share of the queries, {least} and below 1.")
        if test + validation >= 1:
            raise InvalidInputError(
                f"test={test} and validation={validation} leave no queries to learn from; lower one."
            )
        check_whole(split_seed, 0, "split_seed")
        super().__init__(protocol, seed, split, path, text_descriptor, query_prefix, passage_prefix, cache)
        self.query_key = query_key
        self.passage_key = passage_key
        self.test = test
        self.validation = validation
        self.split_seed = split_seed

    def read_collection(self) -> Collection:
        """Read the file and draw the parts of the queries."""
        keys = (self.query_key, self.passage_key)
        pairs = [check_pair(row, keys, self.path, line) for line, row in read_rows(self.path, keys)]
        queries = list(dict.fromkeys(query for query, _ in pairs))
        passages = list(dict.fromkeys(passage for _, passage in pairs))
        sizes = {TEST: round(self.test * len(queries)), VALIDATION: round(self.validation * len(queries))}
        if not sizes[TEST] or (self.validation and not sizes[VALIDATION]) or sum(sizes.values()) >= len(queries):
            raise InvalidInputError(
                f"{self.path} has {len(queries)} distinct queries, of which test={self.test} and "
                f"validation={self.validation} take {sizes[TEST]} and {sizes[VALIDATION]}; give more pairs, or change "
                "the shares."
            )
        order = np.random.default_rng(self.split_seed).permutation(len(queries))
        parts = dict.fromkeys(order[: sizes[TEST]].tolist(), TEST)
        parts |= dict.fromkeys(order[sizes[TEST] : sum(sizes.values())].tolist(), VALIDATION)
        part_of = {query: parts.get(place, TRAINING) for place, query in enumerate(queries)}
        judgements: dict[str, dict[tuple[str, str], int]] = {
            part: {} for part in (TRAINING, VALIDATION, TEST) if part != VALIDATION or sizes[VALIDATION]
        }
        for pair in pairs:
            judgements[part_of[pair[0]]][pair] = 1
        # Texts serve as ids.
        return Collection({text: text for text in passages}, {text: text for text in queries}, judgements)


def read_rows(file: Path, keys: tuple[str, str]) -> Iterable[tuple[int, dict[str, Any]]]:
    """Read the rows of a file with their numbers, from 1.

    Raises:
        InvalidInputError: a missing or unreadable file, another format, or a Parquet file without a column.
    """
    if file.suffix == ".jsonl":
        if not file.is_file():
            raise InvalidInputError(f"{format_missing_path(file)} does not exist; give {LAYOUT}.")
        return read_json_lines(file)
    if file.suffix != ".parquet":
        raise InvalidInputError(f"path={str(file)!r} ends in neither .jsonl nor .parquet; give {LAYOUT}.")
    import polars

    with reading(file, "a Parquet file"):
        columns = polars.read_parquet_schema(file)
        check_columns(list(columns), keys, file)
        return list(enumerate(polars.read_parquet(file, columns=list(keys)).to_dicts(), 1))


def check_columns(columns: list[str], keys: tuple[str, str], file: Path) -> None:
    """Raise an error for a column that a file lacks."""
    for key, setting in zip(keys, ("query_key", "passage_key"), strict=True):
        if key not in columns:
            raise InvalidInputError(
                f"{file} has no {key!r}, but {', '.join(columns) or 'nothing'}; name the column: data.{setting}=NAME."
            )


def check_pair(row: dict[str, Any], keys: tuple[str, str], file: Path, line: int) -> tuple[str, str]:
    """Return the query and the passage of a row.

    Raises:
        InvalidInputError: a missing field, or a value that is not a text with a letter.
    """
    check_columns(list(row), keys, file)
    for key in keys:
        if not isinstance(row[key], str) or not row[key].strip():
            raise InvalidInputError(
                f"{file}, row {line}, has {key}={json.dumps(row[key])[:60]}; expected a text that is not empty."
            )
    return row[keys[0]], row[keys[1]]
