"""Checks of overrides on the command line before Hydra parses them; its grammar gives = and # a special meaning."""

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
    """Run a Hydra program on the command line; exit with status 2 if Hydra rejects the arguments of a single run.

    Args:
        program: function decorated by `hydra.main`.

    Returns:
        The result of the program.
    """
    arguments = sys.argv[1:]
    multirun = any(flag in arguments for flag in MULTIRUN)
    for argument in arguments:
        line = explain_unreadable(argument, multirun)
        if line is not None:
            print(f"error: {line}", file=sys.stderr)
            sys.exit(2)
    try:
        return program()
    except SystemExit as end:
        # A job that has started has its config, and exits with its own status.
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


def _is_readable(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True
