"""The `deephash` program: its commands and the handling of their errors.

The files of the commands import heavy packages only inside functions, so that help and shell completion are fast.
"""

import os
import sys
from typing import Annotated

import typer

import deephash
from deephash.command_line.compare import compare
from deephash.command_line.demo import demo
from deephash.command_line.encode import encode
from deephash.command_line.errors import show_error, show_every_letter
from deephash.command_line.export import export
from deephash.command_line.hydra_program import evaluate, train
from deephash.command_line.index import index
from deephash.command_line.info import info
from deephash.command_line.publish import publish
from deephash.command_line.score import score
from deephash.command_line.search import search
from deephash.command_line.serve import serve
from deephash.command_line.shard import shard
from deephash.command_line.study import study
from deephash.command_line.warm import warm

EPILOG = (
    "Exit status: 0, success; 1, done, but a check failed (rows that cannot be encoded, metrics that differ); 2, wrong "
    "usage or input, with one line on standard error; 130, interrupted."
)
# Hydra parses all arguments, including --help.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer(
    name="deephash",
    help="Learning to hash: fit hashers, encode features into short binary codes, and search them.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        print(f"deephash {deephash.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


app.command(context_settings=PASSED_ON, add_help_option=False)(train)
app.command(context_settings=PASSED_ON, add_help_option=False)(evaluate)
for command in (encode, search, shard, score, serve, info, compare, demo, export, publish, warm):
    app.command()(command)
app.add_typer(index, name="index")
app.add_typer(study, name="study")


def main() -> None:
    """Run the program; invalid input ends it with one red line on standard error and exit status 2.

    Errors of the operating system, such as a full disk or a file that cannot be read, have the same effect.
    """
    show_every_letter()
    try:
        try:
            status = app(standalone_mode=False)
        finally:
            sys.stdout.flush()
        if isinstance(status, int) and status:
            sys.exit(status)
    except BrokenPipeError:
        # The reader of the output has closed it; standard output must not be flushed at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno is None:
            raise
        show_error(
            f"{error.filename or 'standard output or a file'}: {error.strerror}; check the disk and your permissions."
        )
        sys.exit(2)
    except ValueError as error:
        # Look the module up instead of importing it: only an imported module can have raised its error.
        validation = sys.modules.get("deephash.validation")
        if validation is None or not isinstance(error, validation.InvalidInputError):
            raise
        show_error(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        show_error("interrupted.", "")
        sys.exit(130)
    except Exception as error:
        # Typer's own errors of usage; depending on its version, their classes are Click's or copies of them.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
        else:
            command = getattr(getattr(error, "ctx", None), "command_path", "deephash")
            text = error.format_message().removesuffix(".")
            show_error(f"{text}{'' if text.endswith('?') else ';'} `{command} -h` shows the usage.")
        sys.exit(2)


if __name__ == "__main__":
    main()
