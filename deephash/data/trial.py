"""Trial decoding in a separate process, because a damaged file can crash some decoders."""

import subprocess
import sys
from pathlib import Path

PARQUET = "import sys, polars; polars.read_parquet(sys.argv[1], columns=sys.argv[2:], glob=False)"
MATLAB = "import sys, scipy.io; scipy.io.loadmat(sys.argv[1], variable_names=sys.argv[2:])"


def try_decoding(code: str, path: Path, *arguments: str) -> None:
    """Run a decoder on a file and discard its result.

    Args:
        code: Python, which finds the path and the arguments in `sys.argv`: `PARQUET` or `MATLAB`.
        path: the file.
        arguments: columns, or variables.

    Raises:
        ValueError: the file cannot be decoded; the message says why.
    """
    try_program("-c", code, path, *arguments)


def try_program(*arguments: str | Path, seconds: float | None = None) -> None:
    """Run a Python program in a separate process and discard its output.

    Args:
        arguments: of Python: a file, or -c and code; then the program's own.
        seconds: after which the program is stopped; None waits.

    Raises:
        ValueError: the program fails; the message is the last line of its errors.
    """
    # -P: ignore modules beside the data that have the name of a package.
    command = [sys.executable, "-P", *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"its damage keeps the decoder busy for more than {seconds:.0f} seconds") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ValueError(lines[-1] if done.returncode > 0 and lines else "its damage ends the decoder")
