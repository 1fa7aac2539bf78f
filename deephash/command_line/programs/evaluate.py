"""Score a saved run: `deephash evaluate run=FOLDER`, also with other data, protocol, truth or depths."""

import sys
from typing import Any

import hydra
from omegaconf import DictConfig

from deephash.command_line.programs.overrides import MULTIRUN, is_sweep, run_hydra
from deephash.io.configuration import find_configuration_folder
from deephash.io.progress import show_waiting


@hydra.main(version_base="1.3", config_path=find_configuration_folder(), config_name="evaluate")
def run_job(config: DictConfig) -> None:
    """Score a saved run again, print the result, and report whether an unchanged run has the same metrics.

    Raises:
        SystemExit: settings or files are invalid, or the metrics differ.
    """
    with show_waiting("Loading torch"):
        from deephash.command_line.run_command import get_output_folder, is_first_process, reporting_errors

    with reporting_errors():
        with show_waiting("Loading Lightning"):
            from deephash.report.summary import print_summary
            from deephash.training.evaluate_run import evaluate

        result, stored = evaluate(config, get_output_folder())
        if not is_first_process():
            return
        print_summary(result.row, result.folder)
        if stored is None:
            return
        differing = describe_differences(stored["metrics"], result.row["metrics"])
        if differing:
            print(f"The metrics differ from those of the saved run: {differing}", file=sys.stderr)
            sys.exit(1)
        print("The metrics equal those of the saved run exactly.")


def describe_differences(stored: dict[str, Any], now: dict[str, Any]) -> str:
    """Describe the metrics that differ between two rows; empty if none do."""
    from deephash.report.tables import replace_nonfinite

    now = replace_nonfinite(now)
    differing = [name for name in stored if name in now and stored[name] != now[name]]
    return ", ".join(f"{name} {stored[name]!r} then, {now[name]!r} now" for name in differing)


def explain_missing_run(arguments: list[str]) -> str | None:
    """Explain that a run is missing, or that there are several; None for one run, and for commands that show help."""
    given = [argument for argument in arguments if argument.startswith("run=")]
    if any(argument.startswith("-") and argument not in MULTIRUN for argument in arguments):
        return None
    if not given or given[-1] == "run=":
        return "run is missing; type run=FOLDER, with the folder of a run of deephash train."
    if any(flag in arguments for flag in MULTIRUN) and is_sweep(given[-1]):
        return f"{given[-1]} names several runs; score one after the other, each with its own command."
    return None


def main() -> None:
    """Run the program on the command line."""
    run_hydra(run_job, explain_missing_run, "evaluate")


if __name__ == "__main__":
    main()
