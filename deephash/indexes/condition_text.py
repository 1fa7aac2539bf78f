"""Conditions in SQL: which words and signs they may contain.

An engine of SQL can also read files, call addresses and make texts of any length. A condition may come from a request,
so only comparisons, simple functions and the columns of the index are allowed, before any engine sees it.
"""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from deephash.validation import InvalidInputError

MAX_LENGTH = 10_000
"""Maximal length of a condition; a parser of nested brackets needs memory for each."""
MAX_ADDITIONS = 16
"""Maximal number of `+`, each of which can make the text of each item longer."""
MAX_DEPTH = 32
"""Maximal number of brackets and `CASE` inside each other; polars takes minutes for thousands of them."""
WORDS = frozenset(
    {
        "and",
        "or",
        "not",
        "in",
        "between",
        "like",
        "ilike",
        "regexp",
        "rlike",
        "is",
        "null",
        "true",
        "false",
        "case",
        "when",
        "then",
        "else",
        "end",
        "as",
        "escape",
        "int",
        "integer",
        "tinyint",
        "smallint",
        "bigint",
        "float",
        "real",
        "double",
        "decimal",
        "varchar",
        "text",
        "string",
        "boolean",
        "bool",
        "date",
        "time",
        "timestamp",
        "datetime",
        "interval",
    }
)
"""Words of conditions, and of types for `CAST`."""
FUNCTIONS = frozenset(
    {
        "abs",
        "ceil",
        "ceiling",
        "floor",
        "round",
        "sign",
        "sqrt",
        "mod",
        "coalesce",
        "ifnull",
        "nullif",
        "greatest",
        "least",
        "lower",
        "upper",
        "length",
        "char_length",
        "octet_length",
        "left",
        "right",
        "substr",
        "starts_with",
        "ends_with",
        "strpos",
        "ltrim",
        "rtrim",
        "trim",
        "regexp_like",
        "cast",
        "try_cast",
        "date",
        "date_part",
        "strptime",
        "timestamp",
    }
)
"""Functions whose results are not longer than their arguments."""
# Words before a bracket that is not one of a function.
BEFORE_BRACKETS = frozenset(
    {"and", "or", "not", "in", "between", "like", "ilike", "is", "case", "when", "then", "else"}
)
# Words that begin a query. They are no columns unless they are quoted.
QUERIES = frozenset(
    {"select", "from", "with", "table", "values", "exists", "any", "all", "some", "union", "join", "over"}
)
# A text's end depends on the SQL dialect if its last character is a backslash, or if a prefix stands before it.
TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w))|(?P<text>'(?:[^'\\]|''|\\(?!'))*'(?!'))"""
    r"""|(?P<quoted>"(?:[^"]|"")*"(?!"))|(?P<word>[^\W\d]\w*(?!['"\w]))"""
    r"""|(?P<sign>::|<=|>=|<>|!=|==|!~\*|!~|~\*|~|[-+*/%=<>(),])"""
)


class Token(NamedTuple):
    """A part of a condition: its kind, a group of TOKEN, and its characters."""

    kind: str
    text: str


def check_condition(text: str, columns: Sequence[str]) -> None:
    """Raise an error unless a condition contains only columns, values, comparisons and simple functions.

    Args:
        text: the condition in SQL.
        columns: names of the columns of the index.

    Raises:
        InvalidInputError: a text that is too long, or a word or sign that is not allowed.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidInputError(f"where has {len(text)} characters; expected at most {MAX_LENGTH}: shorten it.")
    tokens = split_tokens(text, columns)
    additions = sum(token.text == "+" for token in tokens)
    if additions > MAX_ADDITIONS:
        raise InvalidInputError(f"where has {additions} additions; expected at most {MAX_ADDITIONS}: shorten it.")
    depth = find_depth(tokens)
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"where has {depth} nested brackets; expected at most {MAX_DEPTH}: simplify it.")
    for token, following in zip(tokens, [*tokens[1:], Token("end", "")], strict=True):
        word = token.text.lower()
        if token.kind in ("text", "number", "sign") and (token.text, following.text) not in (("-", "-"), ("/", "*")):
            continue
        if following.text == "(":
            allowed = token.kind == "word" and (word in FUNCTIONS or word in BEFORE_BRACKETS)
        elif token.kind == "quoted":
            allowed = token.text[1:-1].replace('""', '"') in columns
        else:
            allowed = token.kind == "word" and (word in WORDS or (token.text in columns and word not in QUERIES))
        if not allowed:
            raise refuse(text, token.text, columns)


def find_depth(tokens: Sequence[Token]) -> int:
    """Return how many brackets and `CASE` are open at most."""
    steps = (
        (token.text == "(" or token.text.lower() == "case") - (token.text == ")" or token.text.lower() == "end")
        for token in tokens
    )
    return max(accumulate(steps, initial=0))


def split_tokens(text: str, columns: Sequence[str]) -> list[Token]:
    """Split a condition into tokens, without white space.

    Raises:
        InvalidInputError: a character that no token begins with.
    """
    tokens, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise refuse(text, text[place : place + 20], columns)
        place = match.end()
        if match.lastgroup != "space":
            tokens.append(Token(str(match.lastgroup), match[0]))
    return tokens


def refuse(text: str, part: str, columns: Sequence[str]) -> InvalidInputError:
    """Return the error for a part of a condition that is not allowed."""
    shown = " ".join(text.split())[:200]
    return InvalidInputError(
        f"where={shown!r} is not a condition on {', '.join(columns)} (it contains {part[:50]!r}); use columns, "
        "numbers, texts in single quotes, comparisons and simple functions, or an expression of polars."
    )
