"""Score a saved run: `deephash evaluate run=FOLDER`, with other data, protocol, truth or depths as you set them."""

import hydra
from omegaconf import DictConfig

from deephash.programs.configuration import configuration_folder
from deephash.programs.overrides import run_hydra
from deephash.progress import waiting


@hydra.main(version_base="1.3", config_path=configuration_folder(), config_name="evaluate")
def carry_out(config: DictConfig) -> None:
    """Score one run and print its result."""
    with waiting("Loading torch"):
        from deephash.training.command import run_command
        from deephash.training.jobs import evaluate_job

    run_command(lambda: evaluate_job(config))


def main() -> None:
    """Run the program on the command line."""
    run_hydra(carry_out)


if __name__ == "__main__":
    main()
