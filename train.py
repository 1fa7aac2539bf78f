"""Fit a hasher and score it: `python train.py method=itq bits=64`; `python train.py --help` lists the choices."""

from deephash.training.command import register_resolvers

register_resolvers()

import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float | None:
    """Carry out one job and print its result; the score, for sweepers that choose by it."""
    from deephash.training.command import run_command
    from deephash.training.jobs import train_job

    score: float | None = run_command(lambda: train_job(config))
    return score


if __name__ == "__main__":
    main()
