"""Checks of overrides on the command line before Hydra parses them.

Hydra's grammar gives = and # a special meaning. For a setting of another training mode, Hydra advises users to add +,
which would have no effect.
"""

import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException, SearchPathException
from omegaconf.errors import OmegaConfBaseException

from deephash.command_line.programs.sweeps import defer_settings
from deephash.command_line.programs.wrong_names import (
    explain_change_of_names,
    explain_choice,
    explain_failure,
    explain_first_job,
)
from deephash.io.configuration import find_configuration_folder, list_choices, read_choice

MULTIRUN = ("-m", "--multirun")
# Arguments that add folders of choices.
OWN_CHOICES = ("--config-dir", "-cd", "--config-path", "-cp")
FULL_ERRORS = "HYDRA_FULL_ERROR"
# What Hydra raises for arguments that it cannot use.
REFUSALS = (ConfigCompositionException, OverrideParseException, SearchPathException)
# Groups whose files choose the mode.
MODE = re.compile(r"\+{0,2}(train|method|experiment|local)=")
TRAINING_SETTING = re.compile(r"\+{0,2}train\.(\w+)[^=]*=")


def run_hydra(
    program: Callable[[], Any], explain: Callable[[list[str]], str | None] | None = None, name: str = "train"
) -> Any:
    """Run a Hydra program on the command line; exit with one line and status 2 if Hydra rejects the arguments.

    With the environment variable HYDRA_FULL_ERROR=1, errors of Hydra keep their traceback.

    Args:
        program: function decorated by `hydra.main`.
        explain: function that returns what is wrong with the arguments; None without such a check.
        name: train or evaluate, the name of the configuration file.

    Returns:
        The result of the program.
    """
    arguments = sys.argv[1:]
    multirun = any(flag in arguments for flag in MULTIRUN)
    line, overrides, shows = read_flags(arguments)
    line = line or explain_overrides(overrides, multirun, name, any(a.startswith(OWN_CHOICES) for a in arguments))
    if line is None and explain is not None:
        line = explain(arguments)
    if line is None and multirun:
        # Before Hydra creates the folder of the sweep.
        line = explain_first_job(name, overrides)
        sys.argv[1:] = defer_settings(arguments, name)
    if line is None:
        try:
            with _raising_errors():
                return program()
        except BrokenPipeError:
            # The reader of the output has closed it; standard output must not be flushed at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except SystemExit as end:
            # If Hydra has a config, the job had started: its own exit status is kept.
            if end.code == 1 and (shows or (not multirun and not HydraConfig.initialized())):
                sys.exit(2)
            raise
        except (*REFUSALS, OmegaConfBaseException, ValueError) as error:
            started = HydraConfig.initialized() and isinstance(error, ValueError)
            if os.environ.get(FULL_ERRORS) == "1" or (started and not isinstance(error, OmegaConfBaseException)):
                raise
            line = explain_failure(name, arguments, error)
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def read_flags(arguments: list[str]) -> tuple[str | None, list[str], bool]:
    """Separate Hydra's options from the overrides.

    Returns:
        What is wrong with the options, or None; the overrides; and whether the command only shows a config.
    """
    if "--version" in arguments:
        return None, [], False
    text = io.StringIO()
    try:
        with redirect_stderr(text):
            read = get_args_parser().parse_args(arguments)
    except SystemExit:
        line = text.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        return line + ("; type settings without dashes, as in bits=32." if "unrecognized" in line else "."), [], False
    modes = [f"--{flag}" for flag in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(read, flag)]
    if len(modes) > 1:
        return f"{' and '.join(modes)} exclude each other; choose one.", [], False
    return None, list(read.overrides), read.cfg is not None


def explain_overrides(overrides: list[str], multirun: bool, program: str, own_choices: bool = False) -> str | None:
    """Explain the first override that cannot be read or whose choice does not exist; warn about repeated ones.

    Args:
        overrides: arguments of the command line without Hydra's options.
        multirun: whether commas separate the values of a sweep.
        program: train or evaluate.
        own_choices: whether the command line adds folders of choices, so that any choice may exist.
    """
    given: dict[str, str] = {}
    own_choices |= any(override.startswith("hydra.searchpath") for override in overrides)
    for argument in overrides:
        line = explain_unreadable(argument, multirun)
        if line is not None:
            return line
        override = OverridesParser.create().parse_override(argument)
        if not own_choices:
            line = explain_choice(override, program)
            named = any(f"${{{override.key_or_group.split('.')[0]}" in other for other in overrides)
            if line is None and not named:
                line = explain_change_of_names(override, program)
        if line is not None:
            return line
        key = override.get_key_element().lstrip("+~")
        if key in given:
            print(
                f"warning: {key} is given twice, by {given[key]} and {argument}; the last one counts.", file=sys.stderr
            )
        given[key] = argument
    return None


def explain_unreadable(argument: str, multirun: bool = False) -> str | None:
    """Explain why Hydra cannot parse an override, and how to quote it; None for all other arguments.

    Args:
        argument: argument from the command line.
        multirun: whether commas separate the values of a sweep.
    """
    key, _, value = argument.partition("=")
    if argument.startswith("-"):
        return None
    # A backslash is literal except before a quotation mark.
    quoted = '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value) + '"'
    try:
        parsed = OverridesParser.create().parse_override(argument)
    except HydraException:
        if key and "=" in argument and _is_readable(f"{key}={quoted}"):
            return (
                f"{argument} cannot be read, because some of its characters are special; type: "
                f"{shlex.quote(f'{key}={quoted}')}"
            )
        return f"{argument} cannot be read; expected name=value, such as bits=32 or data.features=x.npy."
    if not parsed.key_or_group:
        return f"{argument} has no name; expected name=value, such as bits=32 or data.features=x.npy."
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


@contextmanager
def _raising_errors() -> Iterator[None]:
    """Make Hydra raise its errors, which it would print and turn into an exit status."""
    before = os.environ.get(FULL_ERRORS)
    os.environ[FULL_ERRORS] = "1"
    try:
        yield
    finally:
        os.environ.pop(FULL_ERRORS)
        if before is not None:
            os.environ[FULL_ERRORS] = before
