"""What the user typed, before Hydra reads it: its grammar gives =, #, commas and brackets a meaning of their own."""

import re
import shlex
import sys
from collections.abc import Callable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

MULTIRUN = ("-m", "--multirun")


def run_hydra(program: Callable[[], Any]) -> Any:
    """Run one of Hydra's programs on the command line; what Hydra refuses of a single run ends with status 2.

    Args:
        program: decorated by `hydra.main`.

    Returns:
        What the program returns.
    """
    arguments = sys.argv[1:]
    multirun = any(flag in arguments for flag in MULTIRUN)
    for argument in arguments:
        line = unreadable(argument, multirun)
        if line is not None:
            print(f"error: {line}", file=sys.stderr)
            sys.exit(2)
    try:
        return program()
    except SystemExit as end:
        # A job has its config from the start, and statuses of its own.
        if end.code == 1 and not multirun and not HydraConfig.initialized():
            sys.exit(2)
        raise


def unreadable(argument: str, multirun: bool = False) -> str | None:
    """Why Hydra cannot read an override, with the form to type; None where it can, or where it is no override.

    Args:
        argument: of the command line.
        multirun: whether commas separate the values of a sweep.
    """
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals or not key:
        return None
    # Backslashes stand for themselves, but for those before a quotation mark.
    quoted = '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value) + '"'
    try:
        parsed = OverridesParser.create().parse_override(argument)
    except HydraException:
        if _is_readable(f"{key}={quoted}"):
            return (
                f"{argument} cannot be read, since some of its characters have a meaning of their own; type: "
                f"{shlex.quote(f'{key}={quoted}')}"
            )
        return f"{argument} cannot be read; expected name=value, as bits=32 or data.features=x.npy."
    if parsed.is_sweep_override() and not multirun:
        return (
            f"{argument} has several values; for a sweep over them add -m, for a list put [ ] around them, and for one "
            f"value with commas in it type: {shlex.quote(f'{key}={quoted}')}"
        )
    return None


def _is_readable(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True
