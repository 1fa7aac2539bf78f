"""The report that ends a sweep: one table and one plot over methods × bits.

It reads the jobs' files alone, so it does not matter which launcher ran them, or where. To build it again, as after
adding jobs to a folder: `python -m deephash.report.sweep FOLDER`.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from deephash.io.files import write_json, write_text, write_whole
from deephash.metrics.confidence import FEWEST_PAIRS
from deephash.report.tables import finite, markdown_table
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars


# Letters a line where standard output is a file or a pipe, which has no width that a table must fit.
PLAIN_WIDTH = 200


def write_sweep(folder: Path, runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> list[Path]:
    """Write a sweep's report into its folder.

    Args:
        folder: the sweep's folder.
        runs: as `collect` gives.
        metric: what table, tests and plot are about. The CSV and JSON files hold every metric.
        over: columns of the tables and horizontal axis of the plot, as `collect` took it.

    Returns:
        The files: `sweep.csv` (mean and interval of every metric of every group), `sweep.md` (tables, tests,
        warnings), `sweep.json` (all of that, and every run), `sweep.png`; where there are lines and draws enough,
        `sweep_ranks.png`, the critical-difference diagram.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    from deephash.report.critical_difference import critical_difference_figure, ranking_markdown, rankings
    from deephash.report.drawing import save_figure
    from deephash.report.sweep_figure import sweep_figure
    from deephash.report.sweep_statistics import aggregate, compare, sweep_warnings
    from deephash.report.sweep_tables import grid_markdown, sweep_markdown
    from deephash.report.sweep_views import views_markdown

    means, tests, warnings = aggregate(runs), compare(runs, metric), sweep_warnings(runs, metric, over)
    paths = [folder / f"sweep.{ending}" for ending in ("csv", "md", "json", "png")]
    write_whole(paths[0], means.rename({"bits": over}).write_csv)
    parts = [sweep_markdown(runs, metric, over), grid_markdown(runs, metric, over), views_markdown(runs, metric)]
    parts = [part for part in parts if part] + ["Mean over seeds ± half the 95 % interval of the mean (Student's t).\n"]
    if tests.height:
        title = f"Paired Wilcoxon signed-rank tests of {metric} over shared seeds, p corrected by Holm's method:\n"
        header = ("data", "bits", "first", "second", "seeds", "difference", "p_value", "p_holm")
        shown = [over if name == "bits" else name for name in header]
        parts += [title, markdown_table(shown, tests.select(header).rows(), right=(1, 4, 5, 6, 7))]
        if min(tests["seeds"].to_list()) < FEWEST_PAIRS:
            parts.append(
                f"Fewer than {FEWEST_PAIRS} shared seeds have no p, since with n of them none can be below 2^(1 - n).\n"
            )
    ranked = rankings(runs, metric)
    if ranked:
        parts.append(ranking_markdown(ranked, metric))
    if warnings:
        parts.append("Warnings:\n\n" + "".join(f"- {line}\n" for line in warnings))
    write_text(paths[1], "\n".join(parts))
    content = {"metric": metric, "over": over, "groups": means.to_dicts(), "tests": tests.to_dicts()}
    content["warnings"] = warnings
    write_json(paths[2], finite(content | {"runs": runs.to_dicts()}))
    save_figure(sweep_figure(runs, metric, over), paths[3])
    if ranked:
        paths.append(save_figure(critical_difference_figure(ranked, metric), folder / "sweep_ranks.png"))
    return paths


def report_sweep(folder: Path, metric: str = "mAP", over: str = "bits") -> "polars.DataFrame":
    """Collect a sweep, write its report, and print the table, the warnings and where the files are.

    Returns:
        The runs, as `collect` gives them.

    Raises:
        InvalidInputError: no sweep there, no run of it done, or none has that metric.
    """
    from rich.console import Console
    from rich.markup import escape

    from deephash.report.sweep_runs import collect
    from deephash.report.sweep_statistics import sweep_warnings
    from deephash.report.sweep_tables import sweep_table

    runs = collect(folder, over)
    paths = write_sweep(folder, runs, metric, over)
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(sweep_table(runs, metric, over))
    for line in sweep_warnings(runs, metric, over):
        console.print(f"[yellow]warning:[/yellow] {escape(line)}")
    for path in paths:
        console.print(escape(str(path)))
    return runs


class SweepReport(Callback):
    """Hydra callback that reports a multirun when all of its jobs have ended.

    Args:
        metric: what table, tests and plot are about.
        over: what they are over: the code length, or the config key of another number.
    """

    def __init__(self, metric: str = "mAP", over: str = "bits") -> None:
        self.metric = metric
        self.over = over

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Report the sweep in `hydra.sweep.dir`; what cannot be reported is said in one line.

        Raises:
            SystemExit: with status 1, where a job did not end well, so that scripts can tell.
        """
        try:
            runs = report_sweep(Path(config.hydra.sweep.dir), self.metric, self.over)
        except InvalidInputError as error:
            print(f"no sweep report: {error}", file=sys.stderr)
            sys.exit(1)
        if not set(runs["status"].to_list()) <= {"done", "repeated"}:
            sys.exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Report the sweep in a folder; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deephash.report.sweep", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the sweep, as multirun/DATE")
    parser.add_argument("--metric", default="mAP", help="what table, tests and plot are about (default: mAP)")
    parser.add_argument("--over", default="bits", help="columns and horizontal axis, as protocol.train (default: bits)")
    chosen = parser.parse_args(arguments)
    try:
        report_sweep(chosen.folder, chosen.metric, chosen.over)
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
