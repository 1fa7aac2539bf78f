"""Descriptions of a run, a hasher, a file of codes or a saved index at a path."""

from pathlib import Path
from typing import Any

from deephash.code_files.code_file import ENDINGS, CodePaths, read_description
from deephash.hashers import storage
from deephash.hashers.hasher_views import get_views
from deephash.hashers.loading import load
from deephash.indexes.sharded_index import is_sharded, open_release, read_current_release, read_release
from deephash.io.run_folder import RunFolder
from deephash.report.summary import LEADING_METRICS
from deephash.validation import InvalidInputError


def describe_path(path: Path) -> dict[str, Any]:
    """Describe the contents of a path as JSON values, starting with their kind.

    Raises:
        InvalidInputError: deephash did not write the path, or a part of it is damaged.
    """
    from deephash.indexes import index_folder

    if path.is_dir():
        if (path / index_folder.DESCRIPTION_FILE).exists():
            return describe_index(path)
        if is_sharded(path):
            return describe_sharded(path)
        if (path / "config.yaml").exists():
            return describe_run(RunFolder(path))
        if storage.find_files(path)[0].exists():
            return {"what": "hasher", **describe_hasher(path)}
    elif path.is_file() and path.suffix in ENDINGS and CodePaths(path).description.exists():
        description = read_description(path)
        del description["format"], description["version"], description["file"]
        return {"what": "codes", "bytes": path.stat().st_size, **description}
    reason = "was not written by deephash" if path.exists() else "does not exist"
    raise InvalidInputError(
        f"{path} {reason}; give the folder of a run, a hasher or an index, or a file of deephash encode."
    )


def describe_hasher(folder: Path) -> dict[str, Any]:
    """Return parts, sizes and identity of a hasher, and check its files against the identity."""
    hasher = load(folder)
    parts = {
        name or "hasher": " → ".join(type(part).__name__ for part in (part.encoder, part.projection, part.quantizer))
        for name, part in get_views(hasher).items()
    }
    weights = list(hasher.state_dict().values())
    return {
        "parts": parts if len(parts) > 1 else next(iter(parts.values())),
        "input_dim": hasher.input_dim,
        "bits": hasher.bits,
        "distance": type(hasher.distance).__name__,
        "weights": sum(tensor.numel() for tensor in weights),
        "bytes": sum(tensor.nbytes for tensor in weights),
        "identity": hasher.identity,
    }


def describe_run(run: RunFolder) -> dict[str, Any]:
    """Return the choices, the hasher and the leading metrics of a run."""
    config = run.read_config(to_build=False)
    content: dict[str, Any] = {"what": "run", "state": "complete" if run.is_complete else "interrupted"}
    content |= {str(name): choice for name, choice in (config.get("choices") or {}).items() if choice is not None}
    content |= {"seed": config.get("seed")}
    if (run.hasher / storage.DESCRIPTION_FILE).exists():
        content["hasher"] = describe_hasher(run.path)
    if run.is_complete:
        row = run.read_row()
        content["sizes"] = row.get("sizes")
        content["metrics"] = {name: row["metrics"][name] for name in LEADING_METRICS if name in row["metrics"]}
    return content


def describe_sharded(folder: Path) -> dict[str, Any]:
    """Return release, shards, size and hasher of an index in shards."""
    release = read_release(folder)
    has_changes = read_current_release(folder).name != release.name
    return {
        "what": "index in shards",
        "release": release.name,
        "shards": len(release.shards),
        "size": open_release(folder).size if has_changes else release.size,
        "bits": release.bits,
        "hasher": release.hasher,
    }


def describe_index(folder: Path) -> dict[str, Any]:
    """Return kind, size and hasher of a saved index."""
    from deephash.indexes import index_folder

    stored = index_folder.read_description(folder)
    names = ("kind", "settings", "size", "bits", "hasher")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    described = {"what": "index", **{name: stored[name] for name in names}, "bytes": size}
    if stored.get("log", False):
        described["size"] = len(index_folder.load_index(folder))
    return described
