"""The jobs of a sweep as they lie in its folder: done, failed, damaged or interrupted, and none left out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from deephash.io.files import read_json, reading
from deephash.io.folder_walk import walk_files
from deephash.io.progress import track
from deephash.io.run_folder import RunFolder, differing_settings
from deephash.report.tables import text
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

# What is measured once for each seed; runs that agree on all of it differ by the seed alone.
SETTING = ("data", "protocol", "truth", "score", "database_codes", "k")
GROUP = (*SETTING, "method", "quantizer", "settings", "bits")
RUN_COLUMNS = ("status", "folder", "error", *GROUP, "seed", "split", "skipped_queries", "warnings")
# Settings that the columns of a row say already.
SAID_SETTINGS = ("seed", "bits", "score", "choices")
# Groups whose choice is told by its name where it differs, with the places of their settings.
NAMED_CHOICES = {
    "encoder": ("encoder",),
    "loss": ("loss",),
    "relaxation": ("relaxation", "quantizer.relaxation"),
    "train": ("train",),
}
# What the columns of modality bias begin with.
BIAS = "modality_bias/"
JOB_FILES = ("metrics.json", "error.json", "config.yaml")
REQUIRED = ("method", "bits", "seed", "metrics")


def collect(folder: Path, over: str = "bits") -> "polars.DataFrame":
    """Read every job of a sweep.

    Args:
        folder: the sweep's folder; a job is a folder within it that holds `metrics.json`, `error.json` or
            `config.yaml`. Folders within a job, as those of later evaluations, are not looked into.
        over: what the columns of tables and the horizontal axis of plots are: the code length, or the config key of
            another number, as "protocol.train". That number then stands in the column `bits`, and the code length
            among the settings.

    Returns:
        One row a job, by folder: the columns RUN_COLUMNS, then one column a metric. `status` is "done", "failed" (the
        job left `error.json`), "damaged" (a file cannot be read; `error` says why), "interrupted" (no result yet) or
        "repeated" (a newer job has the same settings and seed, and counts in this one's place). `settings` names what
        else tells jobs of one method and length apart, as "projection.iterations=10".

    Raises:
        InvalidInputError: no such folder, no job in it, or a done job whose config has no whole number at `over`.
    """
    import polars

    if not folder.is_dir():
        raise InvalidInputError(f"{folder} does not exist; give the folder of a sweep, as multirun/DATE.")
    jobs = sorted(job_folders(folder), key=lambda job: _natural(job.relative_to(folder)))
    if not jobs:
        raise InvalidInputError(
            f"{folder} holds no runs; give the folder of a sweep, whose jobs are folders within it."
        )
    rows = [read_job(job, folder) for job in track(jobs, "Results of the sweep")]
    _tell_settings(rows, jobs, over)
    if over != "bits":
        _put_in_place_of_bits(rows, jobs, over)
    _mark_repeated(rows, jobs)
    frame = polars.DataFrame(rows, infer_schema_length=None)
    known = {"bits": polars.Int64, "seed": polars.Int64, "skipped_queries": polars.Int64}
    missing = [polars.lit(None).alias(name) for name in RUN_COLUMNS if name not in frame.columns]
    frame = frame.with_columns(missing)
    others = [name for name in RUN_COLUMNS if name not in (*known, "warnings")]
    frame = frame.with_columns(*(polars.col(name).cast(kind) for name, kind in known.items()))
    frame = frame.with_columns(polars.col(others).cast(polars.String))
    return frame.select(*RUN_COLUMNS, *(name for name in frame.columns if name not in RUN_COLUMNS))


def metric_names(runs: "polars.DataFrame") -> list[str]:
    """Names of the metrics of collected runs."""
    return [name for name in runs.columns if name not in RUN_COLUMNS]


def job_folders(folder: Path) -> Iterator[Path]:
    """Folders below `folder`, through links too, in which a job left a file, and none within those."""

    def is_job(path: Path, names: set[str]) -> bool:
        return path != folder and not names.isdisjoint(JOB_FILES)

    # Loggers leave links beside the jobs, whose targets may be gone.
    files = walk_files(folder, hidden=True, stop=is_job, strict=False)
    yield from dict.fromkeys(file.parent for file in files if file.name in JOB_FILES and file.parent != folder)


def read_job(job: Path, sweep: Path) -> dict[str, Any]:
    """A job's row, whatever state it is in."""
    row: dict[str, Any] = {"folder": str(job.relative_to(sweep)), "error": None, "settings": "", "warnings": []}
    try:
        if (job / "metrics.json").exists():
            return row | {"status": "done"} | _result_columns(job / "metrics.json")
        if (job / "error.json").exists():
            failure = read_json(job / "error.json", "why a job failed")
            if not isinstance(failure, Mapping):
                raise InvalidInputError(f"{job / 'error.json'} is no JSON object; run that job again.")
            said = _overridden(failure.get("overrides") or [])
            return row | {"status": "failed", "error": str(failure.get("error", "no reason given"))} | said
        return row | {"status": "interrupted", "error": f"no result; finish it with: deephash train resume={job}"}
    except InvalidInputError as error:
        return row | {"status": "damaged", "error": str(error)}


def _result_columns(path: Path) -> dict[str, Any]:
    result = RunFolder(path.parent).read_row()
    if any(name not in result for name in REQUIRED):
        raise InvalidInputError(f"{path} lacks one of {', '.join(REQUIRED)}; run that job again.")
    result.setdefault("skipped_queries", 0)
    for name in ("bits", "seed", "skipped_queries"):
        if type(result[name]) is not int or not 0 <= result[name] < 2**63:
            raise InvalidInputError(f"{path} has {name}={result[name]!r}; expected a whole number: run that job again.")
    metrics = dict(result["metrics"])
    columns: dict[str, Any] = {name: result[name] for name in ("bits", "seed", "skipped_queries")}
    columns |= {name: text(result[name]) for name in ("method", "quantizer", "split") if name in result}
    # Rows from before there was a choice are of codes by the functions.
    columns |= {
        name: text(value) for name, value in {"database_codes": "functions", **result}.items() if name in SETTING
    }
    with reading(path, "a result row", "run that job again"):
        columns["warnings"] = [str(line) for line in result.get("warnings") or []]
        metrics |= _bias_columns(result.get("modality_bias"))
        return columns | {name: None if value is None else float(value) for name, value in metrics.items()}


def _bias_columns(bias: Any) -> dict[str, float]:
    """What a run of two views measured of their bias, a column each; none for another run."""
    if not isinstance(bias, Mapping):
        return {}
    single = {name: bias[name] for name in ("gap", "bit_agreement", "chance_agreement") if name in bias}
    own = {f"own_share/{view}": share for view, share in dict(bias.get("own_share") or {}).items()}
    return {BIAS + name: value for name, value in (single | own).items()}


def _overridden(overrides: list[str]) -> dict[str, Any]:
    """What a failed job's overrides say of the columns of its row."""
    said = dict(override.lstrip("+~").split("=", 1) for override in overrides if "=" in override)
    columns: dict[str, Any] = {name: said[name] for name in ("method", "quantizer", *SETTING) if name in said}
    return columns | {name: int(said[name]) for name in ("bits", "seed") if said.get(name, "").isdigit()}


def _tell_settings(rows: list[dict[str, Any]], jobs: list[Path], over: str) -> None:
    """Fill `settings` where done jobs of one method have configs that differ in more than length and seed."""
    groups: dict[tuple[Any, ...], list[tuple[dict[str, Any], DictConfig]]] = {}
    for row, job in zip(rows, jobs, strict=True):
        if row["status"] == "done" and (job / "config.yaml").exists():
            try:
                config = RunFolder(job).read_config(to_build=False)
            except InvalidInputError:
                continue  # Its result is whole, so it counts; only what tells it apart is lost.
            key = tuple(row.get(name) for name in GROUP if name not in ("settings", "bits"))
            groups.setdefault(key, []).append((row, config))
    for members in groups.values():
        for (row, _), values in zip(members, _differing_values([config for _, config in members], over), strict=True):
            row["settings"] = " ".join(_setting(key, value) for key, value in sorted(values.items()))


def _differing_values(configs: list[DictConfig], over: str) -> list[dict[str, Any]]:
    """For each config, its values of the settings on which any two differ beside length and seed.

    A setting that follows from the length or the seed, having one value for each, is not among them.
    """
    first = configs[0]
    differing = [{key: (there, here) for key, there, here in differing_settings(first, config)} for config in configs]
    original = {key: there for differences in differing for key, (there, _) in differences.items()}
    values = [original | {key: here for key, (_, here) in differences.items()} for differences in differing]
    named = {f"choices.{group}": group for group in NAMED_CHOICES if f"choices.{group}" in original}
    telling = []
    for key in original:
        if key == over or (key.split(".")[0] in SAID_SETTINGS and key not in named):
            continue
        if any(_chosen_apart(key, group, values) for group in named.values()):
            continue
        by_bits = {(str(config.get("bits")), str(held[key])) for config, held in zip(configs, values, strict=True)}
        follows_bits = len(by_bits) == len({bits for bits, _ in by_bits})
        follows_seed = all(held[key] == config.get("seed") for config, held in zip(configs, values, strict=True))
        if not follows_bits and not follows_seed:
            telling.append(key)
    return [{key: held[key] for key in telling} for held in values]


def _chosen_apart(key: str, group: str, values: list[dict[str, Any]]) -> bool:
    """Whether a setting is one of a group's and has one value for each choice of that group, which then says it."""
    if not any(key == place or key.startswith(place + ".") for place in NAMED_CHOICES[group]):
        return False
    by_choice = {(str(held[f"choices.{group}"]), str(held[key])) for held in values}
    return len(by_choice) == len({choice for choice, _ in by_choice})


def _put_in_place_of_bits(rows: list[dict[str, Any]], jobs: list[Path], over: str) -> None:
    """Let another number of the config stand where the code length does, and name the length among the settings."""
    for row, job in zip(rows, jobs, strict=True):
        if row["status"] != "done":
            continue
        value = OmegaConf.select(RunFolder(job).read_config(to_build=False), over)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidInputError(f"{job} has {over}={value}; over takes a setting that is a whole number.")
        row["settings"] = f"{row['bits']} bits {row['settings']}".strip()
        row["bits"] = value


def _setting(key: str, value: Any) -> str:
    """A setting as `projection.iterations=10`; a part that was chosen by the last word of its class path."""
    key = key.removeprefix("choices.")
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"


def _mark_repeated(rows: list[dict[str, Any]], jobs: list[Path]) -> None:
    """Let the newest of jobs with equal settings and seed count: twice the same draw is not two draws."""
    newest: dict[tuple[Any, ...], tuple[float, int]] = {}
    for place, (row, job) in enumerate(zip(rows, jobs, strict=True)):
        if row["status"] != "done":
            continue
        key = tuple(row.get(name) for name in (*GROUP, "seed"))
        age = ((job / "metrics.json").stat().st_mtime, place)
        if key in newest:
            loser = newest[key][1] if age > newest[key] else place
            rows[loser] |= {
                "status": "repeated",
                "error": "another job has the same settings and seed; the newest counts",
            }
        newest[key] = max(age, newest.get(key, age))


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key by which job 2 comes before job 10."""
    import re

    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]
