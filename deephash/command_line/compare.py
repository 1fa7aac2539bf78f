"""`deephash compare`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deephash.command_line.arguments import AsJson

if TYPE_CHECKING:
    from deephash.report.comparison import Comparison


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of complete runs, at least two.", show_default=False)],
    metric: Annotated[str, typer.Option(help="Metric to test query by query.")] = "mAP",
    as_json: AsJson = False,
) -> None:
    """Compare runs: metrics, settings that differ, and paired tests of the first run against each other run."""
    from deephash.report.comparison import compare_runs

    compared = compare_runs(runs, metric)
    if as_json:
        typer.echo(json.dumps(asdict(compared), indent=2))
    else:
        print_comparison(compared)


def print_comparison(compared: "Comparison") -> None:
    """Print the comparison as tables."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from deephash.report.tables import format_value

    console = Console(soft_wrap=True, highlight=False)
    numbers = [str(number) for number, _ in enumerate(compared.runs, 1)]
    for number, run in zip(numbers, compared.runs, strict=True):
        console.print(f"[bold]{number}[/bold] {escape(run)}")
    settings = Table("setting")
    for number in numbers:
        settings.add_column(number, overflow="fold")
    for name, values in compared.settings.items():
        settings.add_row(escape(name), *(escape(format_value(value)) for value in values))
    figures = Table("metric")
    for number in numbers:
        figures.add_column(number, justify="right")
    for name, scores in compared.metrics.items():
        known = [score for score in scores if score is not None]
        best = max(known) if known else None
        cells = [f"[bold]{format_value(score)}[/bold]" if score == best else format_value(score) for score in scores]
        figures.add_row(escape(name), *cells)
    console.print(settings if compared.settings else "no setting differs")
    console.print(figures)
    for test in compared.tests:
        console.print(
            f"{compared.metric} of {compared.runs.index(test.run) + 1} minus that of 1: {test.difference:+.4f} over "
            f"{test.queries:,} queries; Wilcoxon p = {test.p_value:.2g} (Holm), effect {test.effect:+.2f}"
        )
    for run, reason in compared.untested.items():
        console.print(f"{escape(run)}: no paired test, {reason}")
