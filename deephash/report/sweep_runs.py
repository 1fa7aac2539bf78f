"""The jobs of a sweep, read from its folder: done, failed, damaged and interrupted ones."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from deephash.io.files import read_json, reading
from deephash.io.folder_walk import walk_files
from deephash.io.progress import track
from deephash.io.run_folder import RunFolder, compare_configs
from deephash.report.tables import format_value
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

# Runs that agree on SETTING measure the same thing; runs that agree on GROUP differ only by seed.
SETTING = ("data", "protocol", "truth", "score", "database_codes", "k")
GROUP = (*SETTING, "method", "quantizer", "settings", "bits")
RUN_COLUMNS = ("status", "folder", "error", *GROUP, "seed", "split", "skipped_queries", "warnings")
# Config keys that other columns of a row cover.
COVERED_SETTINGS = ("seed", "bits", "score", "choices")
# Config groups whose choice appears in the column `settings`, such as "loss=csq", each with the config keys of its
# settings.
NAMED_CHOICES = {
    "encoder": ("encoder",),
    "loss": ("loss",),
    "relaxation": ("relaxation", "quantizer.relaxation"),
    "train": ("train",),
}
# Prefix of the columns of modality bias.
BIAS = "modality_bias/"
JOB_FILES = ("metrics.json", "error.json", "config.yaml")
REQUIRED = ("method", "bits", "seed", "metrics")


def collect(folder: Path, over: str = "bits") -> "polars.DataFrame":
    """Read every job of a sweep.

    Args:
        folder: folder of the sweep. A job is a subfolder with `metrics.json`, `error.json` or `config.yaml`. Folders
            within a job, such as those of later evaluations, are ignored.
        over: number that varies over the columns of tables and along the horizontal axis of plots: "bits", or the
            config key of another number, such as "protocol.train". Another number replaces the code length in the
            column `bits`, and the code length joins the settings.

    Returns:
        One row per job, by folder: the columns RUN_COLUMNS, then one column per metric. `status` is "done", "failed"
        (the job left `error.json`), "damaged" (a file cannot be read; `error` gives the reason), "interrupted" (no
        result yet) or "repeated" (a newer job has the same settings and seed and replaces this one). `settings` has
        the other settings that distinguish jobs of one method and length, such as "projection.iterations=10".

    Raises:
        InvalidInputError: the folder does not exist or holds no job, or `over` is not a whole number in the config of
            a done job.
    """
    import polars

    if not folder.is_dir():
        raise InvalidInputError(f"{folder} does not exist; give the folder of a sweep, such as multirun/DATE.")
    jobs = sorted(find_job_folders(folder), key=lambda job: _build_natural_key(job.relative_to(folder)))
    if not jobs:
        raise InvalidInputError(
            f"{folder} holds no runs; give the folder of a sweep, whose jobs are folders within it."
        )
    rows = [read_job(job, folder) for job in track(jobs, "Results of the sweep")]
    _fill_settings(rows, jobs, over)
    if over != "bits":
        _replace_bits(rows, jobs, over)
    _mark_repeated(rows, jobs)
    frame = polars.DataFrame(rows, infer_schema_length=None)
    whole = {"bits": polars.Int64, "seed": polars.Int64, "skipped_queries": polars.Int64}
    frame = frame.with_columns([polars.lit(None).alias(name) for name in RUN_COLUMNS if name not in frame.columns])
    texts = [name for name in RUN_COLUMNS if name not in (*whole, "warnings")]
    frame = frame.with_columns(*(polars.col(name).cast(kind) for name, kind in whole.items()))
    frame = frame.with_columns(polars.col(texts).cast(polars.String))
    return frame.select(*RUN_COLUMNS, *metric_names(frame))


def metric_names(runs: "polars.DataFrame") -> list[str]:
    """Return the names of the metrics of collected runs."""
    return [name for name in runs.columns if name not in RUN_COLUMNS]


def find_job_folders(folder: Path) -> Iterator[Path]:
    """Yield the outermost folders below `folder` that hold a file of a job; links are followed."""

    def is_job(path: Path, names: set[str]) -> bool:
        return path != folder and not names.isdisjoint(JOB_FILES)

    # Loggers leave links beside the jobs, and these links may be broken.
    files = walk_files(folder, hidden=True, stop=is_job, strict=False)
    yield from dict.fromkeys(file.parent for file in files if file.name in JOB_FILES and file.parent != folder)


def read_job(job: Path, sweep: Path) -> dict[str, Any]:
    """Return the row of a job in any state."""
    row: dict[str, Any] = {"folder": str(job.relative_to(sweep)), "error": None, "settings": "", "warnings": []}
    try:
        if (job / "metrics.json").exists():
            return row | {"status": "done"} | _read_result(job / "metrics.json")
        if (job / "error.json").exists():
            failure = read_json(job / "error.json", "why a job failed")
            if not isinstance(failure, Mapping):
                raise InvalidInputError(f"{job / 'error.json'} is not a JSON object; run that job again.")
            columns = _parse_overrides(failure.get("overrides") or [])
            return row | {"status": "failed", "error": str(failure.get("error", "no reason given"))} | columns
        return row | {"status": "interrupted", "error": f"no result; finish it with: deephash train resume={job}"}
    except InvalidInputError as error:
        return row | {"status": "damaged", "error": str(error)}


def _read_result(path: Path) -> dict[str, Any]:
    """Read the columns of a done job."""
    result = RunFolder(path.parent).read_row()
    if any(name not in result for name in REQUIRED):
        raise InvalidInputError(f"{path} lacks one of {', '.join(REQUIRED)}; run that job again.")
    result.setdefault("skipped_queries", 0)
    # Versions without the setting `database_codes` always scored codes of the hash functions.
    result = {"database_codes": "functions", **result}
    for name in ("bits", "seed", "skipped_queries"):
        if type(result[name]) is not int or not 0 <= result[name] < 2**63:
            raise InvalidInputError(f"{path} has {name}={result[name]!r}; expected a whole number: run that job again.")
    columns: dict[str, Any] = {name: result[name] for name in ("bits", "seed", "skipped_queries")}
    texts = ("method", "quantizer", "split")
    columns |= {name: format_value(result[name]) for name in texts if name in result}
    columns |= {name: format_value(value) for name, value in result.items() if name in SETTING}
    with reading(path, "a result row", "run that job again"):
        columns["warnings"] = [str(line) for line in result.get("warnings") or []]
        metrics = dict(result["metrics"]) | _read_bias(result.get("modality_bias"))
        return columns | {name: None if value is None else float(value) for name, value in metrics.items()}


def _read_bias(bias: Any) -> dict[str, float]:
    """Read the columns of modality bias; none for a run of one view."""
    if not isinstance(bias, Mapping):
        return {}
    single = {name: bias[name] for name in ("gap", "bit_agreement", "chance_agreement") if name in bias}
    shares = {f"own_share/{view}": share for view, share in dict(bias.get("own_share") or {}).items()}
    return {BIAS + name: value for name, value in (single | shares).items()}


def _parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """Return the columns that the overrides of a failed job determine."""
    values = dict(override.lstrip("+~").split("=", 1) for override in overrides if "=" in override)
    columns: dict[str, Any] = {name: values[name] for name in ("method", "quantizer", *SETTING) if name in values}
    return columns | {name: int(values[name]) for name in ("bits", "seed") if values.get(name, "").isdigit()}


def _fill_settings(rows: list[dict[str, Any]], jobs: list[Path], over: str) -> None:
    """Fill `settings` of done jobs with the settings, except length and seed, in which jobs of one method differ."""
    groups: dict[tuple[Any, ...], list[tuple[dict[str, Any], DictConfig]]] = {}
    for row, job in zip(rows, jobs, strict=True):
        if row["status"] == "done" and (job / "config.yaml").exists():
            try:
                config = RunFolder(job).read_config(to_build=False)
            except InvalidInputError:
                continue  # The result counts; only its distinguishing settings are unknown.
            key = tuple(row.get(name) for name in GROUP if name not in ("settings", "bits"))
            groups.setdefault(key, []).append((row, config))
    for members in groups.values():
        for (row, _), values in zip(
            members, _find_differing_values([config for _, config in members], over), strict=True
        ):
            row["settings"] = " ".join(_format_setting(key, value) for key, value in sorted(values.items()))


def _find_differing_values(configs: list[DictConfig], over: str) -> list[dict[str, Any]]:
    """Return, for each config, its values of the settings that differ, except length and seed.

    A setting that has one value for each length, or whose value is always the seed, is left out.
    """
    first = configs[0]
    changes = [
        {key: (original, value) for key, original, value in compare_configs(first, config)} for config in configs
    ]
    originals = {key: original for changed in changes for key, (original, _) in changed.items()}
    values = [originals | {key: value for key, (_, value) in changed.items()} for changed in changes]
    named = {f"choices.{group}": group for group in NAMED_CHOICES if f"choices.{group}" in originals}
    distinguishing = []
    for key in originals:
        if key == over or (key.split(".")[0] in COVERED_SETTINGS and key not in named):
            continue
        if any(_follows_choice(key, group, values) for group in named.values()):
            continue
        by_bits = {(str(config.get("bits")), str(held[key])) for config, held in zip(configs, values, strict=True)}
        follows_bits = len(by_bits) == len({bits for bits, _ in by_bits})
        follows_seed = all(held[key] == config.get("seed") for config, held in zip(configs, values, strict=True))
        if not follows_bits and not follows_seed:
            distinguishing.append(key)
    return [{key: held[key] for key in distinguishing} for held in values]


def _follows_choice(key: str, group: str, values: list[dict[str, Any]]) -> bool:
    """Return whether a setting belongs to a config group and has one value for each choice of the group."""
    if not any(key == place or key.startswith(place + ".") for place in NAMED_CHOICES[group]):
        return False
    by_choice = {(str(held[f"choices.{group}"]), str(held[key])) for held in values}
    return len(by_choice) == len({choice for choice, _ in by_choice})


def _replace_bits(rows: list[dict[str, Any]], jobs: list[Path], over: str) -> None:
    """Replace the code length by another number of the config, and add the length to the settings."""
    for row, job in zip(rows, jobs, strict=True):
        if row["status"] != "done":
            continue
        value = OmegaConf.select(RunFolder(job).read_config(to_build=False), over)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidInputError(f"{job} has {over}={value}; over must be a setting that is a whole number.")
        row["settings"] = f"{row['bits']} bits {row['settings']}".strip()
        row["bits"] = value


def _format_setting(key: str, value: Any) -> str:
    """Format a setting as `projection.iterations=10`, and a class by the last word of its path."""
    key = key.removeprefix("choices.")
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"


def _mark_repeated(rows: list[dict[str, Any]], jobs: list[Path]) -> None:
    """Mark all but the newest of the jobs with equal settings and seed, because they are one draw."""
    newest: dict[tuple[Any, ...], tuple[float, int]] = {}
    for place, (row, job) in enumerate(zip(rows, jobs, strict=True)):
        if row["status"] != "done":
            continue
        key = tuple(row.get(name) for name in (*GROUP, "seed"))
        age = ((job / "metrics.json").stat().st_mtime, place)
        if key in newest:
            older = min(age, newest[key])[1]
            error = "another job has the same settings and seed; the newest counts"
            rows[older] |= {"status": "repeated", "error": error}
        newest[key] = max(age, newest.get(key, age))


def _build_natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts job 2 before job 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]
