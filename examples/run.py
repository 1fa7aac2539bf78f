"""Execute the notebooks of this folder and store their outputs, without what differs from machine to machine.

    python examples/run.py                                     # all, in place
    python examples/run.py examples/2_image_folder.ipynb       # one
    python examples/run.py --to FOLDER                         # leave the stored notebooks as they are

Each notebook runs in an empty temporary folder with one thread. A notebook that asks the network fails, and so does
one with an error or a warning in an output. Needs `pip install "deephash[notebooks]"`.
"""

import argparse
import base64
import io
import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image

HERE = Path(__file__).resolve().parent
CELL_SECONDS = 300
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# A progress bar or a clock that a program leaves on the screen, with the rest of its line up to two spaces.
BARS = re.compile(
    r"^(?:[^┏\n]*━{5,}|[\u2801-\u28ff] ).*?\d:\d\d:\d\d(?: ?[•\d:. ]*it/s| \d:\d\d:\d\d)?(?:  |$)", re.MULTILINE
)
# Python imports this module at its start, also in programs that a notebook starts.
GUARD = '''
"""Refuse connections to other machines, and record them."""
import os, sys

def refuse(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host and host not in ("localhost", "0.0.0.0", "::", "::1") and not host.startswith("127."):
        with open(os.environ["NOTEBOOK_CONNECTIONS"], "a") as record:
            record.write(host + "\\n")
        raise OSError(f"a notebook connects to {host}: notebooks must run without a network")

sys.addaudithook(refuse)
'''


def execute(path: Path) -> NotebookNode:
    """Return the notebook with the outputs of a run in an empty folder.

    Raises:
        RuntimeError: a cell fails or writes to standard error, or the notebook connects to another machine.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder, record = Path(scratch, "notebook"), Path(scratch, "connections")
        for directory in (folder, Path(scratch, "guard"), Path(scratch, "home")):
            directory.mkdir()
        Path(scratch, "guard", "sitecustomize.py").write_text(GUARD)
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
        )
        try:
            client.execute(env=kernel_environment(Path(scratch)))
        except CellExecutionError as error:
            raise RuntimeError(f"{path.name}: {ANSI.sub('', str(error))}") from None
        if record.exists():
            raise RuntimeError(f"{path.name} connects to {', '.join(sorted(set(record.read_text().split())))}")
        clean(notebook, str(folder))
    for place, cell in enumerate(notebook.cells):
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            raise RuntimeError(f"{path.name}: cell {place} writes to standard error:\n{cell.outputs}")
    return notebook


def kernel_environment(scratch: Path) -> dict[str, str]:
    """Return the environment of a kernel: the guard, this Python's programs, and no settings of the user."""
    users = ("IPYTHON", "JUPYTER", "PYTHONWARNINGS", "WANDB", "HYDRA", "HF_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(users)}
    paths = [str(scratch / "guard"), environment.get("PYTHONPATH", "")]
    return environment | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), environment.get("PATH", "")]),
        "NOTEBOOK_CONNECTIONS": str(scratch / "connections"),
        "IPYTHONDIR": str(scratch / "home"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        # Progress bars are for readers who run the notebook; tqdm draws them only with ipywidgets.
        "TQDM_DISABLE": "1",
        "PYTHONWARNINGS": "ignore:IProgress not found",
    }


def clean(notebook: NotebookNode, folder: str) -> None:
    """Remove versions, times, progress bars and the folder of the run; keep tags and the `alt` texts of figures."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in ("alt", "tags") if key in cell.metadata}
        if cell.cell_type != "code":
            continue
        for output in (merged := merge_streams(cell.outputs)):
            if "metadata" in output:
                output.metadata = {}
            if output.output_type == "stream":
                text = render_terminal(output.text).replace(folder + os.sep, "")
                output.text = "".join(line for line in BARS.sub("", text).splitlines(keepends=True) if line.strip())
            if picture := output.get("data", {}).get("image/png"):
                output.data["image/png"] = shrink_picture(picture)
        cell.outputs = [output for output in merged if output.output_type != "stream" or output.text]


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return the outputs with successive texts of one stream as one output: where a text is cut depends on time."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if merged and output.output_type == "stream" and output.name == merged[-1].get("name"):
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def shrink_picture(picture: str) -> str:
    """Return a PNG picture in base64 with 64 colours and without the name of the program that drew it."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
        reduced = opened.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    reduced.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def render_terminal(text: str) -> str:
    """Return the text as a terminal shows it at the end, without colours and without replaced progress bars."""
    lines, row, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|[\r\n])", text):
        if part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif part == "\r":
            column = 0
        elif up := re.fullmatch(r"\x1b\[(\d*)A", part):
            row = max(0, row - int(up[1] or 1))
        elif re.fullmatch(r"\x1b\[2K", part):
            lines[row] = ""
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return "\n".join(line.rstrip() for line in lines)


def main() -> None:
    """Execute the notebooks that the arguments name."""
    parser = argparse.ArgumentParser(description="Execute notebooks and store their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all notebooks beside this program")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="write here, not in place")
    arguments = parser.parse_args()
    for path in arguments.notebooks or sorted(HERE.glob("*.ipynb")):
        try:
            notebook = execute(path)
        except RuntimeError as error:
            sys.exit(str(error))
        nbformat.write(notebook, (arguments.to or path.parent) / path.name)
        print(path.name)


if __name__ == "__main__":
    main()
