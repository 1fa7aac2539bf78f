"""Docstrings, comments, messages and pages are plain English: none of the words and phrases below.

On a page, text between `<!-- prose: off -->` and `<!-- prose: on -->` is not checked; in Python, lines between comments
that end with `prose: off` and `prose: on`.
"""

import ast
import functools
import io
import json
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("*.py", "deephash/**/*.py", "examples/*.py", "benchmarks/**/*.py", "studies/**/*.py", "docs/**/*.py")
PAGES = (
    "*.md",
    ".github/**/*.md",
    ".github/**/*.yml",
    "docs/**/*.md",
    "examples/*.ipynb",
    "benchmarks/*.md",
    "studies/*.md",
    "deephash/**/*.html",
    "deephash/**/*.js",
)
OTHERS = ("conf/**/*.yaml", "deephash/**/*.css", "benchmarks/*.lua")

# A regular expression (a space stands for any blank) → what to write instead.
PHRASES = {
    "a stranger('s)?|strangers": "another person, untrusted",
    "a word of": "an item of",
    "alike": "equally, both, the same",
    "amongst|whilst|unto|upon": "among, while, to, on",
    "anew": "again, re-encoded, refitted",
    "as far as": "up to, if",
    "as one likes|as you like it": "any, as needed",
    "(is|are|be|was|were) asked of": "the subject that asks, and the verb",
    r", as [a-z_]+(\.[a-z_]+)*=": ", such as NAME=VALUE",
    "at hand": "available",
    "befalls?|befits?|bestows?|betokens?|dwells?": "a plain verb",
    r"(bits?|bytes?|labels?) an? (projection|dimension|item|class)(?! can)": "per",
    "by (falling|rising)": "by descending, by ascending",
    "by heart": "memorise",
    "by rule": "by default, usually",
    "comes? to|came to": "is, equals, gives",
    "dear|dearer|dearest": "expensive, slower",
    "else than": "other than",
    "for ever(?!-)": "forever, without end",
    "foretells?|foretold|foretelling": "predict",
    "goes by|go by|went by": "uses, follows",
    "(go|goes|going|went) on with": "continue with",
    "(ids?|pairs?|buckets|neighbours|cursor|tasks|queries) a (query|request|table|worker|search)": "per",
    "hence|thence|whence|hitherto|henceforth": "so, from there, until now",
    "herein|therein|wherein|hereby|thereby|whereby|thereof|whereof|whereupon|thereupon": "a clause of its own",
    "hundredfold|manifold times": "a number",
    "in vain": "without effect",
    "is nothing that|are nothing that": "is not",
    "knows? of|knew of": "records, lists, has",
    "lest": "so that ... not",
    "makes? good": "repair, restore",
    "may do|might do": "may",
    "more find more": "higher values find more",
    "Error: naming": "the error; the message names",
    "naught|nought": "nothing, 0",
    "none but|nothing but|nothing else|something else than": "only, other than",
    "None takes": "None uses",
    "of its own kind|of (its|their) own making": "its own",
    "of late": "recently",
    "on that account": "therefore",
    "once more": "again",
    "one's own": "your own",
    "otherwise than": "differently from",
    "ought|shall|shan't|needs must": "must, should",
    "says? so": "reports it",
    "(stays?|remains?|keeps?) so(?=[.,;:)])": "repeat the adjective",
    "what (to measure|is measured)": "settings of the scoring",
    "(is|are|was|were) sought": "is searched, is expected",
    "slip of the hand": "mistake",
    "so many": "this number of",
    "somebody( else)?('s)?": "someone, another user, another package",
    "takes? up|taken up|took up": "resume, use",
    r"that (is|are) no(?! (longer|more|better|worse|less|larger|smaller)\b)": "that is not a",
    "that is to say|which is to say": "a new sentence",
    "the most (rows|items|pairs|bits|candidates) (of|to|per)": "the maximum number of",
    "to and fro": "in both directions",
    "told|tells? of|telling of": "report, pass, distinguish",
    "what it is made of": "its parts",
    "whatever|whatsoever|whoever|whosoever": "any, all, if",
    "whose like": "similar ones",
}
# First words of the docstring of a function that is not a property.
STARTS = {
    "Refuses?": "Raise an error if",
    "What|Which|How|Where|When|Who|Whose|Why|That": "an imperative: Return the ..., Compute ..., Check that ...",
}


def normalise(phrase):
    return phrase.replace(" ", r"[\s#]+")


FORBIDDEN = re.compile("|".join(rf"\b(?P<p{n}>{normalise(p)})\b" for n, p in enumerate(PHRASES)), re.IGNORECASE)
START = re.compile("|".join(rf"(?P<p{n}>{p})\b" for n, p in enumerate(STARTS)))


def remedy(match, table):
    number = next(int(name[1:]) for name, found in match.groupdict().items() if found and re.fullmatch(r"p\d+", name))
    return list(table.values())[number]


def faults_of_text(text, first_line=1):
    """Lines, phrases and remedies of what is not plain English."""
    for match in FORBIDDEN.finditer(text):
        line = first_line + text.count("\n", 0, match.start())
        yield line, " ".join(match.group().split()), remedy(match, PHRASES)


def faults_of_source(source):
    """The same of a Python file: string literals, comments, and first words of functions' docstrings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from faults_of_text(node.value, node.lineno)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (doc := ast.get_docstring(node)):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            if "property" not in decorators and (match := START.match(doc)):
                yield node.body[0].lineno, match.group(), remedy(match, STARTS)
    comment, first, last = "", 0, -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield from faults_of_text(comment, first)
                comment, first = "", token.start[0]
            comment, last = comment + token.string + "\n", token.start[0]
    yield from faults_of_text(comment, first)


def unchecked_lines(source):
    """Numbers of the lines from a comment that ends with `prose: off` to one that ends with `prose: on`."""
    blocks = re.finditer(r"#.* prose: off\n(?:.*\n)*?.*# prose: on\n", source)
    ends = [(source.count("\n", 0, match.start()), source.count("\n", 0, match.end())) for match in blocks]
    return {line for first, last in ends for line in range(first + 1, last + 1)}


def faults(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        # The lines of all cells, without outputs.
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    if path.suffix == ".py":
        unchecked = unchecked_lines(text)
        return (fault for fault in faults_of_source(text) if fault[0] not in unchecked)
    if path.suffix == ".yaml":
        text = "\n".join(line[line.find("#") :] if "#" in line else "" for line in text.split("\n"))
    unchecked = re.compile("<!-- prose: off -->.*?<!-- prose: on -->", re.DOTALL)
    return faults_of_text(unchecked.sub(lambda match: "\n" * match.group().count("\n"), text))


def folder(path):
    """Two folders at most: `deephash/ranking` of `deephash/ranking/x/y.py`; the name of a file of the root."""
    return "/".join(path.relative_to(ROOT).parts[:-1][:2]) or path.name


@functools.cache
def texts_by_folder():
    paths = sorted({path for pattern in (*SOURCES, *PAGES, *OTHERS) for path in ROOT.glob(pattern)})
    return {name: [path for path in paths if folder(path) == name] for name in sorted({folder(p) for p in paths})}


@pytest.mark.parametrize("name", texts_by_folder())
def test_prose_is_plain(name):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {phrase!r}: write {instead}"
        for path in texts_by_folder()[name]
        for line, phrase, instead in sorted(faults(path))
    ]
    assert not found, "\n".join(["not plain English (see CONTRIBUTING.md):", *found])


def test_phrases_are_found_in_every_kind_of_text():
    source = '''
def code_count(codes):
    """How many codes there are."""
    # They are made
    # anew, and users
    raise ValueError(f"{codes} holds something else than codes")
'''
    assert sorted((line, phrase) for line, phrase, _ in faults_of_source(source)) == [
        (3, "How"),
        (5, "anew"),
        (6, "something else than"),
    ]


def test_cells_of_notebooks_are_checked(tmp_path):
    cells = [{"source": ["# Title\n", "Fitted anew."], "outputs": [{"text": "made anew"}]}, {"source": ["# Anew"]}]
    notebook = tmp_path / "notebook.ipynb"
    notebook.write_text(json.dumps({"cells": cells}))
    assert [line for line, _, _ in faults(notebook)] == [2, 3]


def test_marked_text_is_exempt(tmp_path):
    page, module = tmp_path / "page.md", tmp_path / "module.py"
    page.write_text("Fitted anew.\n<!-- prose: off -->\nMade anew.\n<!-- prose: on -->\nRanked anew.\n")
    module.write_text("\n# Made\n# anew.\n# A stored name. prose: off\nname = 'anew'\n# prose: on\nname = 'anew'\n")
    assert [line for line, _, _ in faults(page)] == [1, 5]
    assert [line for line, _, _ in faults(module)] == [7, 3]
