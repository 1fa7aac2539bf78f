"""The report at the end of a sweep: tables and plots over methods × bits.

It reads only the files of the jobs, so any launcher may have run them, on any machine. To rebuild it, for example after
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
from deephash.report.tables import markdown_table, replace_nonfinite
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars


# Characters per line if standard output is a file or a pipe.
PLAIN_WIDTH = 200


def write_sweep(folder: Path, runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> list[Path]:
    """Write the report of a sweep into its folder.

    Args:
        folder: folder of the sweep.
        runs: as returned by `collect`.
        metric: metric of the tables, tests and plots. The CSV and JSON files hold every metric.
        over: columns of the tables and horizontal axis of the plot, as passed to `collect`.

    Returns:
        The files: `sweep.csv` (mean and interval of every metric of every group), `sweep.md` (tables, tests,
        warnings), `sweep.json` (all of that, and every run), `sweep.png`; and `sweep_ranks.png`, the
        critical-difference diagram, if there are enough lines and draws.

    Raises:
        InvalidInputError: no run is done, or no run has the metric.
    """
    from deephash.report.critical_difference import compute_rankings, draw_critical_differences, format_rankings
    from deephash.report.drawing import save_figure
    from deephash.report.sweep_figure import draw_sweep
    from deephash.report.sweep_statistics import FEW_PAIRS_NOTE, aggregate, compare, find_warnings
    from deephash.report.sweep_tables import format_grid, format_sweep
    from deephash.report.sweep_views import format_views

    means, tests, warnings = aggregate(runs), compare(runs, metric), find_warnings(runs, metric, over)
    paths = [folder / f"sweep.{ending}" for ending in ("csv", "md", "json", "png")]
    write_whole(paths[0], means.rename({"bits": over}).write_csv)
    parts = [format_sweep(runs, metric, over), format_grid(runs, metric, over), format_views(runs, metric)]
    parts = [part for part in parts if part] + ["Mean over seeds ± half the 95 % interval of the mean (Student's t).\n"]
    if tests.height:
        title = f"Paired Wilcoxon signed-rank tests of {metric} over shared seeds, p corrected by Holm's method:\n"
        names = ("data", "bits", "first", "second", "seeds", "difference", "p_value", "p_holm")
        header = [over if name == "bits" else name for name in names]
        parts += [title, markdown_table(header, tests.select(names).rows(), right=(1, 4, 5, 6, 7))]
        if min(tests["seeds"].to_list()) < FEWEST_PAIRS:
            parts.append(FEW_PAIRS_NOTE)
    rankings = compute_rankings(runs, metric)
    if rankings:
        parts.append(format_rankings(rankings, metric))
    if warnings:
        parts.append("Warnings:\n\n" + "".join(f"- {line}\n" for line in warnings))
    write_text(paths[1], "\n".join(parts))
    content = {"metric": metric, "over": over, "groups": means.to_dicts(), "tests": tests.to_dicts()}
    content |= {"warnings": warnings, "runs": runs.to_dicts()}
    write_json(paths[2], replace_nonfinite(content))
    save_figure(draw_sweep(runs, metric, over), paths[3])
    if rankings:
        paths.append(save_figure(draw_critical_differences(rankings, metric), folder / "sweep_ranks.png"))
    return paths


def report_sweep(folder: Path, metric: str = "mAP", over: str = "bits") -> "polars.DataFrame":
    """Collect a sweep, write its report, and print the table, the warnings and the paths of the files.

    Returns:
        The runs, as returned by `collect`.

    Raises:
        InvalidInputError: the folder holds no sweep, no run is done, or no run has the metric.
    """
    from rich.console import Console
    from rich.markup import escape

    from deephash.report.sweep_runs import collect
    from deephash.report.sweep_statistics import find_warnings
    from deephash.report.sweep_tables import build_sweep_table

    runs = collect(folder, over)
    paths = write_sweep(folder, runs, metric, over)
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(build_sweep_table(runs, metric, over))
    for line in find_warnings(runs, metric, over):
        console.print(f"[yellow]warning:[/yellow] {escape(line)}")
    for path in paths:
        console.print(escape(str(path)))
    return runs


class SweepReport(Callback):
    """Hydra callback that reports a multirun after all of its jobs.

    Args:
        metric: metric of the tables, tests and plots.
        over: "bits" for the code length, or the config key of another number.
    """

    def __init__(self, metric: str = "mAP", over: str = "bits") -> None:
        self.metric = metric
        self.over = over

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Report the sweep in `hydra.sweep.dir`, or print one line that says why it cannot be reported.

        Raises:
            SystemExit: with status 1 if a job failed, so that scripts notice.
        """
        try:
            runs = report_sweep(Path(config.hydra.sweep.dir), self.metric, self.over)
        except InvalidInputError as error:
            print(f"no sweep report: {error}", file=sys.stderr)
            sys.exit(1)
        if not set(runs["status"].to_list()) <= {"done", "repeated"}:
            sys.exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Report the sweep in a folder and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deephash.report.sweep", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the sweep, such as multirun/DATE")
    parser.add_argument("--metric", default="mAP", help="metric of the tables, tests and plots (default: mAP)")
    parser.add_argument(
        "--over", default="bits", help="columns and horizontal axis, such as protocol.train (default: bits)"
    )
    chosen = parser.parse_args(arguments)
    try:
        report_sweep(chosen.folder, chosen.metric, chosen.over)
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
