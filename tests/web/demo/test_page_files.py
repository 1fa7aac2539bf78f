"""The files of the page: shipped in the package, nothing from other hosts, and no markup made of strings."""

import re
from pathlib import Path

import pytest

import deephash

FOLDER = Path(deephash.__file__).parent / "web" / "demo" / "page"
FILES = sorted(FOLDER.iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_is_the_pages_own(path):
    text = path.read_text(encoding="utf-8")
    # Names of XML's vocabularies look like addresses; nothing is fetched from them.
    addresses = set(re.findall(r"https?://[^\s\"']+|(?<=[\"'(])//[^\s\"']+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert forbidden not in text
    assert not re.search(r"<[^>]+\s(style|on\w+)=", text)


def test_modules_import_what_is_there():
    names = {path.name for path in FILES}
    for path in FILES:
        imported = re.findall(r"from \"\./([^\"]+)\"", path.read_text(encoding="utf-8"))
        assert set(imported) <= names, path.name


def test_every_name_that_scripts_look_up_is_on_the_page():
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    there = set(re.findall(r'id="([^"]+)"', page))
    for path in FOLDER.glob("*.js"):
        wanted = set(re.findall(r'byId\("([^"]+)"\)', path.read_text(encoding="utf-8")))
        assert wanted <= there, path.name
