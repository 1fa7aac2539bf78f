"""`deephash study`: judgements of real users and their analysis."""

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deephash.command_line.arguments import AsJson, Device, HostNames, Port
from deephash.command_line.errors import show_error

if TYPE_CHECKING:
    from deephash.web.study.analysis import Analysis
    from deephash.web.study.power import Requirement
    from deephash.web.study.preference import Preference

study = typer.Typer(
    help="Let real users judge two runs blindly, and analyse their judgements.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Log = Annotated[Path, typer.Argument(help="Log of a study, an SQLite file.", show_default=False)]


@study.command()
def serve(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of two complete runs of the same data and split.", show_default=False)
    ],
    log: Annotated[
        Path, typer.Option(help="SQLite file of the answers; an existing study continues.", show_default=False)
    ],
    mode: Annotated[str, typer.Option(help="Presentation of the lists: interleaved, side_by_side, or both.")] = "both",
    queries: Annotated[int, typer.Option(help="Maximum number of queries per participant.")] = 20,
    pool: Annotated[int, typer.Option(help="Number of queries drawn from the runs; many participants see each.")] = 100,
    depth: Annotated[int, typer.Option(help="Number of items in a list.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0,
    direction: Annotated[
        str, typer.Option(help="Direction for runs of two views, such as image_to_text.", show_default=False)
    ] = "",
    contact: Annotated[
        str, typer.Option(help="Name and contact of the organiser, for the consent text.", show_default=False)
    ] = "",
    port: Port = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any except a loopback address lets others take part.")
    ] = "127.0.0.1",
    name: HostNames = None,
    device: Device = "auto",
) -> None:
    """Serve a page on which participants judge two runs without knowing which is which.

    Each answer is saved before the next query is shown. No personal data are stored.
    """
    from deephash.validation import InvalidInputError
    from deephash.web.study.design import StudyDesign

    design = StudyDesign(mode, seed, depth, queries, pool, direction)
    try:
        from deephash.web.http_service.host_names import is_loopback
        from deephash.web.study.study_server import serve_study
    except ModuleNotFoundError as error:
        raise InvalidInputError(f"deephash study serve needs {error.name}; pip install 'deephash[demo]'.") from error
    if not is_loopback(host):
        show_error(
            f"anyone who can reach {host} port {port} sees items of these data and can take part, without a password "
            "or encryption; leave --host out to serve only this machine.",
            "warning: ",
        )
    typer.echo("reading the runs ...")

    def report(address: str) -> None:
        typer.echo(f"{address} (Ctrl+C ends it; answers: {log})")

    serve_study(runs, log, design, contact, host, port, name or (), device, report)


@study.command()
def analyse(
    log: Log,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a run of the study; give both to compare judgements with metrics.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Show which run is preferred, with intervals and tests, and the ratings.

    With both runs, also show how well each metric agrees with the judgements, query by query.
    """
    from deephash.web.study.analysis import analyse_log

    analysis = analyse_log(log, run or (), seed)
    if as_json:
        typer.echo(json.dumps(asdict(analysis), indent=2))
    else:
        print_analysis(analysis)


@study.command()
def power(
    preference: Annotated[float, typer.Option(help="Share of decided judgements that prefer the better run.")] = 0.6,
    power: Annotated[float, typer.Option(help="Probability of detecting the preference.")] = 0.8,
    level: Annotated[float, typer.Option(help="Significance level of the two-sided test.")] = 0.05,
    ties: Annotated[float, typer.Option(help="Share of judgements without a preference.")] = 0.0,
    judgements: Annotated[int, typer.Option(help="Judgements per participant.")] = 20,
    icc: Annotated[float, typer.Option(help="Intraclass correlation of the judgements of one participant.")] = 0.0,
    participants: Annotated[
        int | None, typer.Option(help="Also show the power for this number of participants.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Show how many judgements and participants are needed to detect a preference."""
    from dataclasses import asdict

    from deephash.web.study.power import Alternative, compute_requirement

    alternative = Alternative(preference, level, ties, judgements, icc)
    needed = compute_requirement(alternative, power, participants, seed)
    if as_json:
        typer.echo(json.dumps(asdict(needed), indent=2))
    else:
        print_requirement(needed)


@study.command()
def delete(
    log: Log,
    session: Annotated[list[str], typer.Argument(help="Session number, 12 digits.", show_default=False)],
) -> None:
    """Delete all answers of a session from a log; participants may request this at any time."""
    from deephash.web.study.log import StudyLog
    from deephash.web.study.session_number import format_session, parse_session

    number = parse_session(" ".join(session))
    with StudyLog.read(log, writable=True) as opened:
        answers = opened.delete(number)
    typer.echo(f"session {format_session(number)} is deleted, with {answers} answer{'' if answers == 1 else 's'}")


def print_analysis(analysis: "Analysis") -> None:
    """Print an analysis as tables."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from deephash.report.summary import is_comparison

    console = Console(soft_wrap=True, highlight=False)
    for number, run in zip(("first ", "second"), analysis.runs, strict=True):
        console.print(f"[bold]{number}[/bold] {escape(run)}")
    console.print(
        f"{analysis.sessions:,} sessions, {analysis.queries:,} queries judged, "
        f"median {analysis.seconds:.1f} s a judgement"
    )
    preferences = Table("preference", *(one.mode for one in analysis.preferences))
    for column in preferences.columns[1:]:
        column.justify = "right"
    rows: dict[str, Callable[[Preference], str]] = {
        "participants": lambda one: str(one.participants),
        "for the first": lambda one: str(one.first),
        "for neither": lambda one: str(one.neither),
        "for the second": lambda one: str(one.second),
        "first, of the decided": lambda one: format_figure(one.share),
        "95 % by participants": lambda one: format_interval(one.clustered),
        "sign-flip test, p": lambda one: format_figure(one.clustered_p_value, ".2g"),
        "95 % if independent (Wilson)": lambda one: format_interval(one.wilson),
        "sign test, p": lambda one: format_figure(one.p_value, ".2g"),
        "intraclass correlation": lambda one: format_figure(one.icc, ".2f"),
    }
    for name, figure in rows.items():
        preferences.add_row(name, *map(figure, analysis.preferences))
    console.print(preferences)
    ratings = Table("mean rating of the list")
    for heading in ("ratings", "mean", "95 % by participants"):
        ratings.add_column(heading, justify="right")
    for rated in analysis.ratings:
        ratings.add_row(rated.rated, str(rated.ratings), f"{rated.mean:.2f}", format_interval(rated.interval, ".2f"))
    console.print(ratings)
    if analysis.left is not None:
        share, interval = analysis.left
        console.print(f"the left list was preferred in {share:.3f} of the decided pairs ({format_interval(interval)})")
    if analysis.agreements:
        console.print("Kendall's tau over queries, between the judgements and the gain of the first on the second")
        agreements = Table("metric", "queries")
        for judged in ("preference", "rating"):
            agreements.add_column(f"{judged}, 95 %", justify="right")
        for metric, found in groupby(analysis.agreements, lambda one: one.metric):
            if not is_comparison(metric):  # Metrics for comparison with published code are only in the JSON.
                both = list(found)
                cells = [f"{format_figure(one.tau, '+.2f')}, {format_interval(one.interval, '+.2f')}" for one in both]
                agreements.add_row(escape(metric), str(both[0].queries), *cells)
        console.print(agreements)
    else:
        console.print("give --run RUN --run RUN to compare judgements with the runs' metrics")
    for warning in analysis.warnings:
        console.print(f"[yellow]{escape(warning)}[/yellow]")


def print_requirement(needed: "Requirement") -> None:
    """Print the required size of a study."""
    from rich.console import Console
    from rich.table import Table

    sought = needed.alternative
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"a preference of {sought.preference:g}, found with probability {needed.power:g} at level {sought.level:g}; "
        f"{sought.ties:g} of the judgements are ties, {sought.judgements} per participant"
    )
    table = Table("judgements of one participant")
    for heading in ("participants", "judgements", "test"):
        table.add_column(heading, justify="right")
    counts = (str(needed.independent_participants), f"{needed.independent_judgements:,}")
    table.add_row("independent", *counts, "sign test, exact")
    if needed.clustered_participants is not None:
        counts = (str(needed.clustered_participants), f"{needed.clustered_judgements:,}")
        table.add_row(f"correlated, ICC {sought.icc:g}", *counts, "sign flips, simulated")
    console.print(table)
    if needed.reached is not None:
        console.print(f"{needed.participants} participants reach a power of {needed.reached:.3f}")


def format_figure(value: float | None, form: str = ".3f") -> str:
    """Format a figure; None is a dash."""
    return "–" if value is None else format(value, form)


def format_interval(interval: tuple[float, float] | None, form: str = ".3f") -> str:
    """Format the ends of an interval; None is a dash."""
    return "–" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"
