"""Explanations of choices and settings that a run does not have, with the nearest ones that it has.

Hydra's own messages list all choices, and for an unknown setting they advise a + that would have no effect. Here
Hydra's composition is repeated after a failure, to find the override that caused it.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deephash.io.configuration import find_configuration_folder, list_choices, read_choice

# Groups whose choices can be combined, as in loss=[ap,balance].
COMBINED = ("loss", "user_metric", "augmentation", "experiment", "trainer", "logger")
# Extras that install a choice of Hydra's groups.
EXTRAS = ("joblib", "submitit", "ray", "optuna")
# Longer lists are not printed; a command shows them.
MAX_LISTED = 12
# Jobs of a failed sweep that are composed again.
MAX_JOBS = 64


def explain_change_of_names(override: Override, program: str) -> str | None:
    """Explain a + that adds a name without any effect, or a ~ that deletes a choice that every run needs.

    Args:
        override: parsed override.
        program: train or evaluate, the name of its configuration file.
    """
    content: Any = OmegaConf.load(Path(find_configuration_folder()) / f"{program}.yaml")
    content.pop("defaults")
    defaults = _read_defaults(program)
    given, path = str(override.input_line), override.key_or_group.split(".")
    if override.is_delete():
        if isinstance(defaults.get(path[0]), str) and len(path) == 1:
            return f"{given}: every run has one choice of {path[0]}; choose another one by {path[0]}=NAME."
        return None
    if not (override.is_add() or override.is_force_add()) or override.package is not None or list_options(path[0]):
        return None
    node: Any = OmegaConf.to_container(content, resolve=False)
    for known, name in enumerate(path):
        names = [*node, *([] if known else defaults)]
        nearest = find_nearest(name, names, cutoff=0.7)  # A name that is meant to be new should not be refused.
        if name not in names and nearest:
            meant = ".".join([*path[:known], nearest])
            return f"{given}: there is no setting {'.'.join(path[: known + 1])}; did you mean {meant}?"
        if not isinstance(node.get(name), dict):
            break
        node = node[name]
    return None


def _read_defaults(program: str) -> dict[str, Any]:
    """Return the choices that a run has by default, by group."""
    content: Any = OmegaConf.load(Path(find_configuration_folder()) / f"{program}.yaml")
    entries = (entry for entry in content.defaults if not isinstance(entry, str))
    return {str(group): name for entry in entries for group, name in entry.items()}


def find_nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most similar to a mistyped one, or None; case and hyphens do not matter.

    Args:
        name: the mistyped name.
        known: all names.
        cutoff: least similarity, as `difflib` computes it; 0.6 is its default.
    """
    names = {_simplify(known_name): known_name for known_name in sorted(known)}
    close = difflib.get_close_matches(_simplify(name), names, n=1, cutoff=cutoff)
    longer = [known_name for known_name in names if len(name) >= 3 and known_name.startswith(_simplify(name))]
    return names[(longer or close)[0]] if longer or close else None


def _simplify(name: str) -> str:
    return re.sub(r"\W", "_", name.casefold().removesuffix(".yaml"))


def list_options(group: str) -> list[str]:
    """Return the choices of a group: the YAML files of `conf`, those of packages, and those of a running Hydra."""
    found = set(list_choices(group))
    if GlobalHydra.instance().is_initialized():
        found |= set(GlobalHydra.instance().config_loader().get_group_options(group))
    try:
        stored = ConfigStore.instance().list(group)
    except OSError:
        stored = []
    return sorted(found | {Path(name).stem for name in stored if name.endswith(".yaml")})


def explain_choice(override: Override, program: str) -> str | None:
    """Explain an override that chooses what its group does not have; None if it has it, or the key is not a group.

    Args:
        override: parsed override, possibly of several values.
        program: train or evaluate, for the command that lists the choices.
    """
    group, given, value = override.key_or_group, str(override.input_line), override.value()
    options = list_options(group)
    if group == "index":
        return (
            f"{given}: a run ranks all items exactly and builds no index; build one of a run's database by: "
            "deephash index RUN OUT --kind KIND, or --recall 0.95."
        )
    if not options or isinstance(value, dict) or override.is_delete():
        return None
    if isinstance(value, Glob):
        return None if value.filter(options) else f"{given} matches none of {', '.join(options)}."
    values = _list_values(override)
    if any(isinstance(entry, list) for entry in values) and group in list_choices_of_one():
        return f"{given} gives several choices for one; choose one, or run each of them by: -m {group}=A,B."
    for choice in [name for entry in values for name in (entry if isinstance(entry, list) else [entry])]:
        if choice is None and "none" not in options and not isinstance(_read_defaults(program).get(group), str):
            return f"{given} cannot be read; to leave {group} out, type ~{group}."
        if choice is None or str(choice) not in options:
            text = "null" if choice is None else str(choice)
            return f"{group}={text} is unknown; {_advise(group, str(choice), options, program)}"
    return None


def explain_first_job(program: str, overrides: list[str]) -> str | None:
    """Explain why the first job of a sweep cannot be composed; None if it can.

    Args:
        program: train or evaluate.
        overrides: overrides of the sweep.
    """
    with initialize_config_dir(find_configuration_folder(), version_base="1.3"):
        try:
            job = next(_list_jobs(OverridesParser.create().parse_overrides(overrides)), None)
            return None if job is None or _composes(program, job) else _explain_job(program, job)
        except (HydraException, OmegaConfBaseException, ValueError):
            return None  # Hydra explains it.


def explain_failure(program: str, arguments: list[str], error: BaseException) -> str:
    """Explain in one line why Hydra could not compose a run.

    Args:
        program: train or evaluate.
        arguments: arguments of the command line.
        error: what Hydra raised.

    Returns:
        The wrong override with the nearest correct one, or else Hydra's message on one line.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    line = None
    with initialize_config_dir(find_configuration_folder(), version_base="1.3"):
        try:
            for job in _list_jobs(OverridesParser.create().parse_overrides(overrides)):
                line = _explain_job(program, job)
                if line is not None:
                    break
        except (HydraException, OmegaConfBaseException, ValueError):
            pass  # Hydra's own message follows.
    if line is not None:
        return line
    if isinstance(error.__cause__, OmegaConfBaseException):
        error = error.__cause__
    # OmegaConf adds lines on the place in the config, and Hydra the folders that it searches.
    text = re.split(r"\n\s*(?:full_key|Config search path):", str(error))[0] or type(error).__name__
    text = " ".join(text.split())
    return f"{text[:300]}{'…' if len(text) > 300 else ''} (HYDRA_FULL_ERROR=1 shows where)"


def list_choices_of_one() -> list[str]:
    """Return the groups of which a run has one choice."""
    folders = (path for path in Path(find_configuration_folder()).iterdir() if path.is_dir())
    return [path.name for path in folders if path.name not in COMBINED]


def _list_values(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    return list(islice(override.sweep_iterator(), MAX_JOBS)) if override.is_discrete_sweep() else []


def _list_jobs(overrides: list[Override]) -> Iterator[list[Override]]:
    """Yield the overrides of the first jobs of a sweep, or of the single run."""
    parser = OverridesParser.create()
    several: list[list[Override]] = []
    for override in overrides:
        if not override.is_sweep_override():
            several.append([override])
        elif override.is_discrete_sweep() and not isinstance(override.value(), Glob):
            prefix = override.get_key_element()
            values = islice(override.sweep_string_iterator(), MAX_JOBS)
            several.append([parser.parse_override(f"{prefix}={value}") for value in values])
    return (list(job) for job in islice(product(*several), MAX_JOBS))


def _explain_job(program: str, overrides: list[Override]) -> str | None:
    """Explain the first override of a job that Hydra refuses."""
    groups = [o for o in overrides if not isinstance(o.value(), dict) and list_options(o.key_or_group)]
    for override in groups:
        line = explain_choice(override, program)
        if line is not None:
            return line
    accepted: list[Override] = []
    waiting = groups
    # A choice can bring the group of another one, so overrides that are refused are tried again after each success.
    while taken := next((o for o in waiting if _composes(program, [*accepted, o])), None):
        accepted.append(taken)
        waiting = [o for o in waiting if o is not taken]
    config: Any = compose(program, [str(o.input_line) for o in accepted], return_hydra_config=True)
    chosen = dict(config.hydra.runtime.choices)
    settings: Any = OmegaConf.to_container(config, resolve=False)
    if waiting:
        return _explain_group(waiting[0], chosen, program)
    for override in overrides:
        if override not in groups:
            line = _explain_setting(override, settings, chosen, program)
            if line is not None:
                return line
    return None


def _composes(program: str, overrides: list[Override]) -> bool:
    try:
        compose(program, [str(override.input_line) for override in overrides])
    except (HydraException, OmegaConfBaseException, ValueError):
        return False
    return True


def _explain_group(override: Override, chosen: dict[str, Any], program: str) -> str:
    """Explain a choice that exists, of a group that the run does not have, or has already."""
    given, group = str(override.input_line), override.key_or_group
    if override.package is not None:
        return (
            f"{given}: this run chooses no {group} at {override.package}; type {group}=NAME, or +{given.lstrip('+~')} "
            f"to add one there."
        )
    if group in chosen:
        if override.is_delete():
            return f"{given}: this run has {group}={chosen[group]}; type ~{group}."
        return f"{given}: every run has one choice of {group}; type {given.lstrip('+')}."
    owners = _list_bringing(group) if program == "train" else []
    if owners:
        return f"{given} belongs to {' or '.join(owners)}, which this run does not have; add {owners[0]}."
    return f"{given}: {group} is no part of this command; leave it out."


def _explain_setting(override: Override, settings: Any, chosen: dict[str, Any], program: str) -> str | None:
    """Explain an override of a setting that does not exist, or that exists and is added; note one that is added."""
    given, path = str(override.input_line), override.key_or_group.split(".")
    adds = override.is_add() or override.is_force_add()
    node, known = settings, 0
    while known < len(path) and isinstance(node, dict) and path[known] in node:
        node, known = node[path[known]], known + 1
    if known == len(path):
        if override.is_add() and not isinstance(node, dict | list) and node is not None:
            return f"{given}: {override.key_or_group} exists; type {given.removeprefix('+')}, without +."
        if override.is_delete() and override.value() not in (None, node):
            return f"{given}: {override.key_or_group} is {node}; type ~{override.key_or_group} to delete it."
        return None
    if adds:
        for name in path[known:-1]:
            node = node.setdefault(name, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[path[-1]] = override.value()
        return None
    parent = ".".join(path[:known])
    if parent and not isinstance(node, dict):
        return f"{given}: {parent} is one value, {node!r}, and has no setting {path[known]}; type {parent}=VALUE."
    return f"{given}: {_advise_setting(path, known, node, chosen, program)}"


def _advise_setting(path: list[str], known: int, node: dict[str, Any], chosen: dict[str, Any], program: str) -> str:
    """Say which setting may be meant by a path whose first parts exist."""
    parent, name = ".".join(path[:known]), path[known]
    show = f"`deephash {program} --cfg job` lists the settings"
    if not parent and name in chosen:
        return f"{name} is a choice, such as {name}={list_options(name)[0]}, and has no settings itself; {show}."
    if not parent and list_options(name):
        owners = _list_bringing(name) if program == "train" else []
        return f"this run has no {name}; {f'add {owners[0]}' if owners else 'leave it out'}."
    others = _list_settings(path[:known]) if parent and program == "train" else {}
    if name in others:
        return f"{parent} has no setting {name} in this run; these have it: {_shorten(others[name])}."
    names = [key for key in node if not key.startswith("_") and key not in ("hydra", "choices")]
    names += [] if parent else [group for group in chosen if "/" not in group and group not in ("hydra", "local")]
    nearest = find_nearest(name, names)
    inside = f"{parent} has no setting {name}" if parent else f"there is no setting {name}"
    if nearest:
        return f"{inside}; did you mean {'.'.join(filter(None, (parent, nearest)))}? {show[0].upper()}{show[1:]}."
    elsewhere = find_nearest(name, others)
    if elsewhere:
        return f"{inside}; did you mean {parent}.{elsewhere}, a setting of {_shorten(others[elsewhere])}?"
    if parent and 0 < len(names) <= MAX_LISTED:
        return f"{inside}; it has: {', '.join(names)}."
    return f"{inside}; {show}."


def _list_bringing(group: str) -> list[str]:
    """Return the choices, such as train=stream, that add a group to a run."""
    return sorted(
        f"{other}={name}"
        for other in ("train", "encoder", "data")
        for name, file in list_choices(other).items()
        if f"- /{group}:" in file.read_text(encoding="utf-8")
    )


def _list_settings(parent: list[str]) -> dict[str, list[str]]:
    """Return the settings below a path, such as data, by name, each with the choices that have it."""
    found: dict[str, list[str]] = {}
    for group in list_choices_of_one():
        for choice, file in sorted(list_choices(group).items()):
            package = re.search(r"^# @package (\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
            prefix = [group] if package is None else [] if package[1] == "_global_" else package[1].split(".")
            settings: Any = read_choice(file)[0]
            for part in reversed(prefix):
                settings = {part: settings}
            for part in parent:
                settings = settings.get(part) if isinstance(settings, dict) else None
            for name in settings if isinstance(settings, dict) else ():
                found.setdefault(name, []).append(f"{group}={choice}")
    return found


def _shorten(owners: list[str]) -> str:
    return ", ".join(owners[:3]) + (" and others" if len(owners) > 3 else "")


def _advise(group: str, given: str, options: list[str], program: str) -> str:
    """Name the nearest choice, and the others if they are few."""
    if group.startswith("hydra/") and given in EXTRAS:
        return f"install it: pip install 'deephash[{given}]'."
    nearest = find_nearest(given, options)
    hint = f"did you mean {nearest}? " if nearest else ""
    if len(options) <= MAX_LISTED:
        return f"{hint}{'Expected' if nearest else 'expected'} one of: {', '.join(options)}."
    return f"{hint}`deephash {program} --help` lists the choices."
