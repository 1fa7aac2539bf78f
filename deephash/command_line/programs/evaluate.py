"""Score a saved run: `deephash evaluate run=FOLDER`, also with other data, protocol, truth or depths."""

import hydra
from omegaconf import DictConfig

from deephash.command_line.programs.overrides import run_hydra
from deephash.io.configuration import find_configuration_folder
from deephash.io.progress import show_waiting


@hydra.main(version_base="1.3", config_path=find_configuration_folder(), config_name="evaluate")
def run_job(config: DictConfig) -> None:
    """Score one run and print its result."""
    with show_waiting("Loading torch"):
        from deephash.command_line.jobs import evaluate_job
        from deephash.command_line.run_command import run_command

    run_command(lambda: evaluate_job(config))


def main() -> None:
    """Run the program on the command line."""
    run_hydra(run_job)


if __name__ == "__main__":
    main()
