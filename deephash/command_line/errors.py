"""How text and errors are shown."""

import io
import sys


def show_every_letter() -> None:
    """Have letters that the encoding of standard output or error lacks shown as escapes, where they would be an error.

    A console of ASCII, as with PYTHONIOENCODING=ascii, lacks "ε" and "…"; one of UTF-8 lacks names of other bytes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show_error(text: str, label: str = "error: ") -> None:
    """One line on standard error, red on a terminal."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(label + " ".join(text.split()), style="bold red"))
