"""Trial decoding in a separate process, because a damaged file can crash some decoders."""

import subprocess
import sys
from pathlib import Path

PARQUET = "import sys, polars; polars.read_parquet(sys.argv[1], columns=sys.argv[2:], glob=False)"
MATLAB = "import sys, scipy.io; scipy.io.loadmat(sys.argv[1], variable_names=sys.argv[2:])"


def try_decoding(code: str, path: Path, *arguments: str) -> None:
    """Run a decoder on a file and discard its result.

    Args:
        code: Python code that reads the path and the arguments from `sys.argv`: `PARQUET` or `MATLAB`.
        path: the file.
        arguments: columns or variables to read.

    Raises:
        ValueError: the file cannot be decoded; the message has the reason.
    """
    try_program("-c", code, path, *arguments)


def try_program(*arguments: str | Path, seconds: float | None = None) -> None:
    """Run a Python program in a separate process and discard its output.

    Args:
        arguments: a Python file, or "-c" and code; then the arguments of the program.
        seconds: timeout; None for no limit.

    Raises:
        ValueError: the program fails; the message is the last line of its errors.
    """
    # -P: ignore modules in the working folder that have the name of a package.
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
        raise ValueError(f"it is damaged: the decoder ran for more than {seconds:.0f} seconds") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ValueError(lines[-1] if done.returncode > 0 and lines else "it is damaged: the decoder crashed")
