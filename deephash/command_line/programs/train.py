"""Fit a hasher and score it: `deephash train method=itq bits=64`; `deephash train --help` lists the choices.

Hydra names a job, its log file included, by the file of its function. Lightning and launchers of sweeps start this file
for their further processes.
"""

import hydra
from omegaconf import DictConfig

from deephash.command_line.programs.overrides import run_hydra
from deephash.io.configuration import find_configuration_folder
from deephash.io.progress import waiting

with waiting("Loading torch"):
    from deephash.command_line.plugins import register_plugins
    from deephash.command_line.run_command import register_resolvers

register_resolvers()
register_plugins()


@hydra.main(version_base="1.3", config_path=find_configuration_folder(), config_name="train")
def carry_out(config: DictConfig) -> float | None:
    """Carry out one job and print its result; the score, for sweepers that choose by it."""
    from deephash.command_line.jobs import train_job
    from deephash.command_line.run_command import run_command

    score: float | None = run_command(lambda: train_job(config))
    return score


def main() -> None:
    """Run the program on the command line."""
    run_hydra(carry_out)


if __name__ == "__main__":
    main()
