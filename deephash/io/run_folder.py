"""The files in the folder of a run."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf

from deephash.io.files import format_missing_path, reading
from deephash.io.path_settings import make_paths_absolute
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

# Settings that affect how a run is executed or shown, but not its results; a resumed run may change them.
UNBOUND_SETTINGS = ("trainer", "logger", "figures", "resume", "choices.trainer", "choices.logger")

# Settings that affect the scores, but not the fit. An interrupted run may change them; a complete run is scored again
# by an evaluation instead.
SCORING_SETTINGS = ("metrics", "user_metric")

# Files of a complete run that are read again, and the entry of the result row with their digests.
BUILT_ON = ("split.npz", "hasher/hasher.json")
READ_AGAIN = ("per_query.parquet", "pr_curve.json", *BUILT_ON)
FILES = "files"

# Bounds of a config that is read, since YAML's parser takes minutes for deep or long files.
MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH = 1 << 18, 50

# File with the duration of the fit, written last into a hasher's folder.
FIT_SECONDS = "fit.json"
# Files that a run writes into its folder, besides its config.
RUN_FILES = frozenset(
    (
        "best", "bit_statistics.parquet", "checkpoint", "environment.json", "hasher", "history.json", "metrics.json",
        "neighbours.html", "per_query.parquet", "pr_curve.json", "split.npz", "start", "tune.json",
    )
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    `config.yaml` is written first and `metrics.json` last: a folder without `metrics.json` is of an interrupted run,
    which can be resumed.

    Args:
        path: the folder; `open` creates it.
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
        """Folder of the fitted hasher from which joint training starts."""
        return self.path / "start"

    @property
    def best(self) -> Path:
        """Folder of the best hasher so far in a joint training, by the scores of its validation queries."""
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
        """The result row, which only complete runs have."""
        return self.path / "metrics.json"

    @property
    def fit_seconds(self) -> Path:
        """Duration of the fit, which a resumed run reports."""
        return self.hasher / FIT_SECONDS

    @property
    def tuning(self) -> Path:
        """Candidate values with their scores, and the chosen values."""
        return self.path / "tune.json"

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended successfully."""
        return self.metrics.exists()

    def open(self, config: DictConfig) -> None:
        """Create the folder for a run of this resolved config, or open it to resume the same run.

        Raises:
            InvalidInputError: the folder contains a run of another config, or other files with names of a run's files.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            self.check_free()
            write_sealed_text(self.config, OmegaConf.to_yaml(config, resolve=True))
            return
        stored = make_paths_absolute(self.read_config())  # Earlier versions stored relative paths.
        differing = compare_configs(stored, config, (*UNBOUND_SETTINGS, *SCORING_SETTINGS))
        scored = [] if differing else compare_configs(stored, config)
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
        """Raise an error if a folder without a run contains a file with the name of a run's file."""
        taken = [path for path in self.path.iterdir() if path.name in RUN_FILES]
        if taken:
            raise InvalidInputError(
                f"{min(taken)} exists in a folder that holds no run, and a run would replace it; choose another "
                "hydra.run.dir."
            )

    def check_scores_go_here(self) -> None:
        """Raise an error if the output folder of an evaluation contains a run, or other files with such names."""
        if self.config.exists():
            raise InvalidInputError(
                f"{self.path} holds a run, which an evaluation does not change; choose another folder."
            )
        if self.metrics.exists():
            self.read_row()  # An earlier evaluation wrote it.
        elif self.path.is_dir():
            self.check_free()

    def read_config(self, to_build: bool = True) -> DictConfig:
        """Read the resolved config of the run.

        Args:
            to_build: whether parts are built from it; False if it is only shown or compared.

        Raises:
            InvalidInputError: no such folder, no readable config in it, a config with interpolations, or, if
                `to_build` is true, one with a target that is not a part of a run.
        """
        if not self.path.is_dir():
            raise InvalidInputError(
                f"{format_missing_path(self.path)} does not exist; give the folder of a run of train.py."
            )
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
        settings = use_public_names(settings)
        if to_build:
            check_targets(settings, self.config)
        return cast(DictConfig, OmegaConf.create(settings))

    def write_row(self, row: dict[str, Any]) -> None:
        """Write the result row, the run's last file, with digests of the files that are read again."""
        written = [name for name in READ_AGAIN if (self.path / name).exists()]
        write_sealed_json(self.metrics, row | {FILES: {name: file_digest(self.path / name) for name in written}})

    def check_file(self, name: str) -> None:
        """Raise an error if one of the `READ_AGAIN` files was changed or damaged since the run."""
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
        """Raise an error if a complete run has the split or the hasher of another run.

        The hasher of another run may have been fitted on rows that are queries in this one.
        """
        for name in BUILT_ON:
            self.check_file(name)

    def read_row(self) -> dict[str, Any]:
        """Read the result row of the run.

        Raises:
            InvalidInputError: the file is missing or damaged, or is not a row of metrics.
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
        """Raise an error, with the command that resumes it, if the run is not complete."""
        self.read_config(to_build=False)
        if not self.is_complete:
            raise InvalidInputError(
                f"{self.path} holds an interrupted run; finish it with: deephash train resume={self.path}"
            )


def check_events(text: str) -> None:
    """Raise a ValueError for YAML with aliases, which can grow without bound, or deeper than `MAX_CONFIG_DEPTH`."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it repeats parts by alias, which no run writes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_CONFIG_DEPTH:
            raise ValueError(f"its parts are nested more than {MAX_CONFIG_DEPTH} levels deep, which no run writes")


def compare_configs(
    one: DictConfig, other: DictConfig, unbound: Sequence[str] = UNBOUND_SETTINGS
) -> list[tuple[str, Any, Any]]:
    """Return the dotted names and both values of settings that differ, except those within `unbound`."""
    flat_one, flat_other = _flatten(one), _flatten(other)
    keys = [key for key in {**flat_one, **flat_other} if not any(_is_within(key, free) for free in unbound)]
    missing = "nothing"
    pairs = [(key, flat_one.get(key, missing), flat_other.get(key, missing)) for key in keys]
    return [(key, there, here) for key, there, here in pairs if there != here]


def _is_within(key: str, parent: str) -> bool:
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


def use_public_names(settings: Any) -> Any:
    """Return settings with the public name of each class; earlier versions wrote the name of its module."""
    if isinstance(settings, list):
        return [use_public_names(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    named = {key: use_public_names(value) for key, value in settings.items()}
    if isinstance(target := named.get("_target_"), str):
        # Renamed classes come first: another class may now have their former name.
        found = None if target in FORMER_NAMES else resolve_former(target)
        named["_target_"] = FORMER_NAMES.get(target, target) if found is None else get_public_name(found)
    return named
