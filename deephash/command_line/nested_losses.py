"""The losses that `loss=nested` sums over prefixes if the command line names no others."""

from collections.abc import Sequence

from hydra import compose
from omegaconf import DictConfig, OmegaConf, open_dict

from deephash.training.building import NESTED, select_losses


def add_nested_losses(config: DictConfig, overrides: Sequence[str]) -> None:
    """Give `loss=nested` the losses that the run would have without it, such as those of its method, in place.

    Args:
        config: config of a job, composed by the running Hydra.
        overrides: overrides of the job.
    """
    if list(select_losses(config)) != [NESTED]:
        return
    keys = {override: override.lstrip("+~").split("=")[0] for override in overrides}
    without = [override for override, key in keys.items() if key != "loss" and not key.startswith(f"loss.{NESTED}")]
    plain = compose("train", without)
    if NESTED not in select_losses(plain):
        with open_dict(config), open_dict(plain):
            config.loss = OmegaConf.merge(plain.get("loss") or {}, config.loss)
