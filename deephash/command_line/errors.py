"""Output of text and errors."""

import io
import sys


def show_every_letter() -> None:
    """Print characters that the encoding of standard output or error lacks as escapes, instead of failing.

    An ASCII console (PYTHONIOENCODING=ascii) lacks "ε" and "…"; a UTF-8 console lacks undecodable file names.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show_error(text: str, label: str = "error: ") -> None:
    """Print one line on standard error, red on a terminal."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(label + " ".join(text.split()), style="bold red"))
