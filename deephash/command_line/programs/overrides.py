"""Checks of overrides on the command line before Hydra parses them.

Hydra's grammar gives = and # a special meaning. For a setting of another training mode, Hydra advises users to add +,
which would have no effect.
"""

import re
import shlex
import sys
from collections.abc import Callable
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from deephash.io.configuration import find_configuration_folder, list_choices, read_choice

MULTIRUN = ("-m", "--multirun")
# Groups whose files choose the mode.
MODE = re.compile(r"\+{0,2}(train|method|experiment|local)=")
TRAINING_SETTING = re.compile(r"\+{0,2}train\.(\w+)[^=]*=")


def run_hydra(program: Callable[[], Any], explain: Callable[[list[str]], str | None] | None = None) -> Any:
    """Run a Hydra program on the command line; exit with status 2 if Hydra rejects the arguments of a single run.

    Args:
        program: function decorated by `hydra.main`.
        explain: function that returns what is wrong with the arguments; None without such a check.

    Returns:
        The result of the program.
    """
    arguments = sys.argv[1:]
    multirun = any(flag in arguments for flag in MULTIRUN)
    lines = [explain_unreadable(argument, multirun) for argument in arguments]
    if explain is not None:
        lines.append(explain(arguments))
    line = next(filter(None, lines), None)
    if line is not None:
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    try:
        return program()
    except SystemExit as end:
        # If Hydra has a config, the job had started: its own exit status is kept.
        if end.code == 1 and not multirun and not HydraConfig.initialized():
            sys.exit(2)
        raise


def explain_unreadable(argument: str, multirun: bool = False) -> str | None:
    """Explain why Hydra cannot parse an override, and how to quote it; None for all other arguments.

    Args:
        argument: argument from the command line.
        multirun: whether commas separate the values of a sweep.
    """
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals or not key:
        return None
    # A backslash is literal except before a quotation mark.
    quoted = '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value) + '"'
    try:
        parsed = OverridesParser.create().parse_override(argument)
    except HydraException:
        if _is_readable(f"{key}={quoted}"):
            return (
                f"{argument} cannot be read, because some of its characters are special; type: "
                f"{shlex.quote(f'{key}={quoted}')}"
            )
        return f"{argument} cannot be read; expected name=value, such as bits=32 or data.features=x.npy."
    if parsed.is_sweep_override() and not multirun:
        return (
            f"{argument} has several values; add -m for a sweep over them, put [ ] around them for a list; "
            f"for one value with commas in it type: {shlex.quote(f'{key}={quoted}')}"
        )
    return None


def explain_other_mode(arguments: list[str]) -> str | None:
    """Explain an override of a setting that only other training modes have; None if there is none.

    Args:
        arguments: arguments of `deephash train`; of a sweep, only those with one value are read.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    names = {override: found[1] for override in overrides if (found := TRAINING_SETTING.match(override))}
    if not names or any(override.startswith("resume=") for override in overrides):
        return None
    single = [override for override in overrides if not is_sweep(override)]
    swept = [override for override in overrides if override not in single]
    if any(flag in arguments for flag in MULTIRUN):
        swept += [override for override in overrides if override.startswith(("experiment=", "+experiment="))]
    if any(MODE.match(override) for override in swept):
        return None  # The runs of a sweep, or of an experiment that is one, can have different modes.
    try:
        with initialize_config_dir(find_configuration_folder(), version_base="1.3"):
            config = compose("train", [o for o in single if o not in names], return_hydra_config=True)
    except HydraException:
        return None  # Hydra explains it.
    for name in names.values():
        modes = [mode for mode, file in list_choices("train").items() if name in read_choice(file)[0].get("train", ())]
        if name not in config.train and modes:
            choices = " or ".join(f"train={mode}" for mode in sorted(modes))
            return (
                f"train.{name} is a setting of {choices}, and this run has train={config.hydra.runtime.choices.train}; "
                f"choose {choices}, or leave the setting out."
            )
    return None


def is_sweep(override: str) -> bool:
    """Return whether an override has several values."""
    try:
        return bool(OverridesParser.create().parse_override(override).is_sweep_override())
    except HydraException:
        return False


def _is_readable(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True
