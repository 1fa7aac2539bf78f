"""Fit a hasher and score it: `deephash train method=itq bits=64`; `deephash train --help` lists the choices.

Hydra names a job and its log file after the file of the decorated function. Lightning and sweep launchers run this file
in further processes.
"""

import hydra
from omegaconf import DictConfig

from deephash.command_line.programs.overrides import run_hydra
from deephash.io.configuration import find_configuration_folder
from deephash.io.progress import show_waiting

with show_waiting("Loading torch"):
    from deephash.command_line.plugins import register_plugins
    from deephash.command_line.run_command import register_resolvers

register_resolvers()
register_plugins()


@hydra.main(version_base="1.3", config_path=find_configuration_folder(), config_name="train")
def run_job(config: DictConfig) -> float | None:
    """Run one job and print its result. Return the score, which some sweepers optimise."""
    from deephash.command_line.jobs import train_job
    from deephash.command_line.run_command import run_command

    score: float | None = run_command(lambda: train_job(config))
    return score


def main() -> None:
    """Run the program on the command line."""
    run_hydra(run_job)


if __name__ == "__main__":
    main()
