"""`deephash index`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deephash.command_line.change import Columns, add, compact, remove, update

BUILD = "build"


class BuildByDefault(TyperGroup):
    """A group of commands that builds an index if its first argument is not a command.

    `deephash index CODES OUT` is older than the other commands. A file that is called like one of them is given with
    its folder, as in `./add`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before arguments that begin with none."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [BUILD, *args]
        return super().parse_args(ctx, args)


index = typer.Typer(
    cls=BuildByDefault,
    no_args_is_help=True,
    help="Build an index of packed codes, or change one. deephash index CODES OUT is short for deephash index build.",
)


def build(
    source: Annotated[
        Path,
        typer.Argument(
            help="Codes from deephash encode; a run, to index its database; or, with --shards, a folder of codes.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the index.", show_default=False)],
    kind: Annotated[
        str, typer.Option(help="mih, flat, faiss_hnsw, ...; auto measures the exact kinds and chooses the fastest.")
    ] = "auto",
    setting: Annotated[
        list[str] | None, typer.Option(help="A setting of the kind, such as tables=4. Repeatable.", show_default=False)
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            help="Number of shards for deephash serve; 0 for one per file of codes.", show_default=False, min=0
        ),
    ] = None,
    columns: Columns = None,
    recall: Annotated[
        float, typer.Option(help="Share of neighbours that auto must find; below 1, approximate kinds are tried, too.")
    ] = 1.0,
) -> None:
    """Build an index of packed codes and save it, together with the identity of their hasher."""
    from deephash.code_files.index_codes import read_codes_and_hasher, save_index
    from deephash.indexes.index_writing import check_own_folder
    from deephash.io.ownership import check_not_source
    from deephash.validation import InvalidInputError

    settings = {}
    for pair in setting or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInputError(f"--setting {pair}; expected NAME=VALUE, such as tables=4.")
        settings[name] = parse_value(value)
    out = out.expanduser()
    if shards is not None or source.is_file():
        check_not_source(source, out)
    if shards is not None and columns is not None:
        raise InvalidInputError("an index in shards has no columns; leave out --shards or --columns.")
    if shards is not None and recall != 1:
        raise InvalidInputError("the shards of an index are exact with auto; leave out --shards or --recall.")
    if shards is not None:
        from deephash.code_files.write_sharded import write_sharded

        release = write_sharded(source, out, shards or None, kind, settings)
        typer.echo(f"{out}: {release.size:,} codes of {release.bits} bits in {len(release.shards)} shards")
        return
    check_own_folder(out)
    if source.is_file():
        from deephash.code_files.code_shards import open_shards
        from deephash.code_files.repeated_ids import report_repeated

        report_repeated(open_shards([source]))
    if source.is_dir():
        from deephash.training.run_codes import encode_run_database

        codes, ids, maker = encode_run_database(source)
    else:
        codes, ids, maker = read_codes_and_hasher(source)
    built = save_index(codes, ids, maker, kind, settings, out, columns, recall)
    if built.choice is not None and recall < 1:
        typer.echo(str(built.choice))
    typer.echo(f"{out}: {built.kind} index of {len(built):,} codes of {built.bits} bits")


def parse_value(text: str) -> object:
    """Parse a setting as JSON, or return the text itself."""
    import json

    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


for command in (build, add, update, remove, compact):
    index.command()(command)
