"""Checks of the sections of a saved run's config: each must describe a part of its group."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from deephash.validation import InvalidInputError

CONTRACTS = {
    "data": "deephash.data.base.HashingDataModule",
    "protocol": "deephash.data.protocols.base.Protocol",
    "truth": "deephash.affinity.base.Affinity",
    "ranking": "deephash.ranking.base.RankingEngine",
}
"""Base class of the part of each section."""
METRIC = "deephash.metrics.user_metric.UserMetric"

FLAGS = {"_partial_": bool, "_recursive_": bool, "_convert_": str}
"""Hydra's own keys in a section, with their types; runs never write `_args_`."""


def check_sections(config: DictConfig, file: Path, needed: Sequence[str]) -> None:
    """Raise an error if a config lacks a section, or has the wrong kind of value or part in one.

    Args:
        config: config as read, with checked targets.
        file: file of the config, for the message.
        needed: sections from which parts are built.
    """
    settings = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    for reason in (*(f"it lacks {name}" for name in needed if name not in settings), *_find_faults(settings)):
        raise InvalidInputError(f"{file} is not the config of a run ({reason}); restore it or run again.")


def _find_faults(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield a description of each fault."""
    for name in ("metrics", "choices", "trainer"):
        if name in settings and not isinstance(settings[name], Mapping):
            yield f"{name}={settings[name]!r:.100}, not a section"
    metrics = settings.get("metrics")
    for name in ("at", "radii"):
        value = metrics.get(name, []) if isinstance(metrics, Mapping) else []
        if not isinstance(value, list) or not all(type(each) is int for each in value):
            yield f"metrics.{name}={value!r:.100}, not a list of whole numbers"
    yield from _find_hydra_faults(settings, "")
    for name, contract in CONTRACTS.items():
        if name in settings:
            yield from _find_part_faults(settings[name], name, contract)
    metric_settings = settings.get("user_metric") or {}
    if not isinstance(metric_settings, Mapping):
        yield f"user_metric={metric_settings!r:.100}, not a section"
        return
    for name, entry in metric_settings.items():
        yield from _find_part_faults(entry, f"user_metric.{name}", METRIC)


def _find_part_faults(section: Any, key: str, contract: str) -> Iterator[str]:
    target = section.get("_target_") if isinstance(section, Mapping) else None
    if target is None:
        yield f"{key}={section!r:.100}, not a part"
        return
    module, _, name = contract.rpartition(".")
    try:
        found = get_class(target)
    except Exception:  # It is not a class, or its module cannot be imported.
        found = object
    if not issubclass(found, getattr(import_module(module), name)):
        yield f"{key}._target_={target}, not a subclass of {name}"


def _find_hydra_faults(value: Any, key: str) -> Iterator[str]:
    """Yield Hydra's own keys that no run writes."""
    if isinstance(value, Mapping):
        if "_args_" in value:
            yield f"{key}._args_, but settings have names"
        for flag, kind in FLAGS.items():
            if flag in value and not isinstance(value[flag], kind):
                yield f"{key}.{flag}={value[flag]!r:.100}, not a {kind.__name__}"
        for name, inner in value.items():
            yield from _find_hydra_faults(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _find_hydra_faults(inner, f"{key}.{place}")
