"""A run's folder: where its files lie, and how they come to be there whole or not at all."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf

from deephash.io.files import reading, sought
from deephash.io.path_settings import with_absolute_paths
from deephash.io.run_targets import check_plain, check_targets
from deephash.io.sealed_files import (
    check_sealed_text,
    file_digest,
    read_sealed_json,
    write_sealed_json,
    write_sealed_text,
)
from deephash.registry import FORMER_NAMES, get_public_name, resolve_former
from deephash.validation import InvalidInputError

# Settings that say how a run is carried out or shown, not what it computes: a resumed run may change them.
UNBOUND_SETTINGS = ("trainer", "logger", "figures", "resume", "choices.trainer", "choices.logger")

# Settings that say what is measured of a run, not what is fitted: an interrupted run may change them, of a complete one
# they are the evaluation's.
SCORING_SETTINGS = ("metrics", "user_metric")

# Files that a complete run is read with, those of its scores among them, and the entry of the result row that has their
# digests.
BUILT_ON = ("split.npz", "hasher/hasher.json")
READ_AGAIN = ("per_query.parquet", "pr_curve.json", *BUILT_ON)
FILES = "files"

# Bounds of a config that is read, since YAML's parser takes minutes for what is deep or long.
MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH = 1 << 18, 50

# How long a fit took, kept beside its hasher, whose last file it is.
FIT_SECONDS = "fit.json"
# What a run writes into its folder, beside its config.
RUN_FILES = frozenset(
    (
        "best", "bit_statistics.parquet", "checkpoint", "environment.json", "hasher", "history.json", "metrics.json",
        "neighbours.html", "per_query.parquet", "pr_curve.json", "split.npz", "start", "tune.json",
    )
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    `config.yaml` comes first and `metrics.json` last: a folder with the first and not the second was interrupted, and
    resuming it goes on from what is there.

    Args:
        path: the folder; made by `open`.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def split(self) -> Path:
        """Rows of every part, with their hash."""
        return self.path / "split.npz"

    @property
    def hasher(self) -> Path:
        """Folder of the fitted hasher."""
        return self.path / "hasher"

    @property
    def start(self) -> Path:
        """Folder of the hasher as fitted, where joint training begins."""
        return self.path / "start"

    @property
    def best(self) -> Path:
        """Folder of the best hasher so far of a joint training, by its validation queries."""
        return self.path / "best"

    @property
    def history(self) -> Path:
        """Losses and validation scores of a joint training by epoch."""
        return self.path / "history.json"

    @property
    def checkpoint(self) -> Path:
        """The state of a joint training at the end of its last epoch."""
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def metrics(self) -> Path:
        """The result row; its presence says that the run is complete."""
        return self.path / "metrics.json"

    @property
    def fit_seconds(self) -> Path:
        """How long the fit took, kept so that a resumed run can still tell."""
        return self.hasher / FIT_SECONDS

    @property
    def tuning(self) -> Path:
        """The values that were tried, with their scores, and those chosen."""
        return self.path / "tune.json"

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended well."""
        return self.metrics.exists()

    def open(self, config: DictConfig) -> None:
        """Make the folder for a run of this resolved config, or take up the same run where it was left.

        Raises:
            InvalidInputError: the folder holds a run of another config, or files of something else by a run's names.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            self.check_free()
            write_sealed_text(self.config, OmegaConf.to_yaml(config, resolve=True))
            return
        stored = with_absolute_paths(self.read_config())  # An earlier version kept relative paths.
        differing = differing_settings(stored, config, (*UNBOUND_SETTINGS, *SCORING_SETTINGS))
        scored = [] if differing else differing_settings(stored, config)
        if scored and self.is_complete:
            key, there, here = scored[0]
            raise InvalidInputError(
                f"{self.path} holds a complete run scored with {key}={there}, not {key}={here}; score it again with: "
                f"deephash evaluate run={self.path}, and this setting."
            )
        if scored:
            write_sealed_text(self.config, OmegaConf.to_yaml(config, resolve=True))
        if differing:
            key, there, here = differing[0]
            more = f" and {len(differing) - 1} more settings differ" if len(differing) > 1 else ""
            raise InvalidInputError(
                f"{self.path} holds a run with {key}={there}, not {key}={here}{more}; choose another hydra.run.dir, "
                "or resume that run with its own settings."
            )

    def check_free(self) -> None:
        """Raise an error for a folder without a run in which something bears the name of what a run writes.

        Raises:
            InvalidInputError: naming it.
        """
        taken = [path for path in self.path.iterdir() if path.name in RUN_FILES]
        if taken:
            raise InvalidInputError(
                f"{min(taken)} is there, in a folder that holds no run, and a run would replace it; choose another "
                "hydra.run.dir."
            )

    def check_scores_go_here(self) -> None:
        """Refuse a folder for the scores of an evaluation in which a run lies, or something else by a run's names.

        Raises:
            InvalidInputError: naming what is there.
        """
        if self.config.exists():
            raise InvalidInputError(f"{self.path} holds a run, whose figures stay as they are; choose another folder.")
        if self.metrics.exists():
            self.read_row()  # Of an earlier evaluation.
        elif self.path.is_dir():
            self.check_free()

    def read_config(self, to_build: bool = True) -> DictConfig:
        """The resolved config of the run.

        Args:
            to_build: whether parts may be built from it; False where it is only shown or compared.

        Raises:
            InvalidInputError: no such folder, no readable config in it, or one that looks something up on this machine
                or, to be built from, names what is no part of a run.
        """
        if not self.path.is_dir():
            raise InvalidInputError(f"{sought(self.path)} does not exist; give the folder of a run of train.py.")
        if not self.config.exists():
            raise InvalidInputError(f"{self.path} holds no config.yaml; give the folder of a run of train.py.")
        with reading(self.config, "the config of a run"):
            if self.config.stat().st_size > MAX_CONFIG_BYTES:
                raise ValueError(f"it has more than {MAX_CONFIG_BYTES} bytes, which no run writes")
            text = self.config.read_text(encoding="utf-8")
            check_sealed_text(text)
            check_events(text)
            config = OmegaConf.load(io.StringIO(text))
            if not isinstance(config, DictConfig) or not config:
                raise ValueError("no settings in it")
            settings = cast(dict[str, Any], OmegaConf.to_container(config))
        check_plain(settings, self.config)
        settings = with_public_names(settings)
        if to_build:
            check_targets(settings, self.config)
        return cast(DictConfig, OmegaConf.create(settings))

    def write_row(self, row: dict[str, Any]) -> None:
        """Write the result row, the run's last file, with digests of those beside it that are read again."""
        written = [name for name in READ_AGAIN if (self.path / name).exists()]
        write_sealed_json(self.metrics, row | {FILES: {name: file_digest(self.path / name) for name in written}})

    def check_file(self, name: str) -> None:
        """Raise an error for a file beside the result row that is not as the run left it.

        Args:
            name: one of `READ_AGAIN`.

        Raises:
            InvalidInputError: it was changed or damaged.
        """
        known = read_sealed_json(self.metrics, "a result row").get(FILES, {}) if self.is_complete else {}
        if name not in known or not (self.path / name).exists():
            return
        with reading(self.path / name, "a file of a run"):
            found = file_digest(self.path / name)
        if found != known[name]:
            raise InvalidInputError(
                f"{self.path / name} does not match its digest in {self.metrics.name}; it was changed or damaged: "
                "restore it, or evaluate the run again."
            )

    def check_built_on(self) -> None:
        """Refuse a complete run whose split or hasher is another run's: its queries may be training items there.

        Raises:
            InvalidInputError: naming the file.
        """
        for name in BUILT_ON:
            self.check_file(name)

    def read_row(self) -> dict[str, Any]:
        """The result row of the run.

        Raises:
            InvalidInputError: a missing or damaged file, or one that is no row of metrics.
        """
        row = read_sealed_json(self.metrics, "a result row")
        row.pop(FILES, None)
        metrics = row.get("metrics")
        with reading(self.metrics, "a result row"):
            if not isinstance(metrics, dict):
                raise ValueError(f"its metrics are {metrics!r}, not an object of numbers")
            for name, value in metrics.items():
                if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                    raise ValueError(f"its metric {name} is {value!r}, not a number")
        return row

    def check_complete(self) -> None:
        """Raise an error for a run that did not end.

        Raises:
            InvalidInputError: with the command that finishes it.
        """
        self.read_config(to_build=False)
        if not self.is_complete:
            raise InvalidInputError(
                f"{self.path} holds an interrupted run; finish it with: deephash train resume={self.path}"
            )


def check_events(text: str) -> None:
    """Raise an error for YAML whose parts would grow without bound, by alias, or that is deeper than any run's.

    Raises:
        ValueError: saying so, for `reading` to name the file.
    """
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it repeats parts by alias, which no run writes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_CONFIG_DEPTH:
            raise ValueError(f"its parts lie more than {MAX_CONFIG_DEPTH} deep in each other, which no run writes")


def differing_settings(
    one: DictConfig, other: DictConfig, unbound: Sequence[str] = UNBOUND_SETTINGS
) -> list[tuple[str, Any, Any]]:
    """Settings on which two resolved configs differ, by dotted name, apart from those within `unbound`."""
    flat_one, flat_other = _flatten(one), _flatten(other)
    keys = [key for key in {**flat_one, **flat_other} if not any(_within(key, free) for free in unbound)]
    missing = "nothing"
    pairs = [(key, flat_one.get(key, missing), flat_other.get(key, missing)) for key in keys]
    return [(key, there, here) for key, there, here in pairs if there != here]


def _within(key: str, parent: str) -> bool:
    return key == parent or key.startswith(parent + ".")


def _flatten(config: DictConfig) -> dict[str, Any]:
    flat: dict[str, Any] = {}

    def walk(value: Any, prefix: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{prefix}.{key}" if prefix else str(key))
        else:
            flat[prefix] = value

    walk(OmegaConf.to_container(config, resolve=True), "")
    return flat


def with_public_names(settings: Any) -> Any:
    """Settings with the public name of each class, where an earlier version wrote that of its module."""
    if isinstance(settings, list):
        return [with_public_names(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    named = {key: with_public_names(value) for key, value in settings.items()}
    if isinstance(target := named.get("_target_"), str):
        found = resolve_former(target)
        named["_target_"] = FORMER_NAMES.get(target, target) if found is None else get_public_name(found)
    return named
