"""The file with the precision-recall curves of a run as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deephash.io.files import read_json, reading, write_json
from deephash.io.run_folder import RunFolder
from deephash.metrics.pr_curve import PrecisionRecallCurve
from deephash.report.tables import replace_nonfinite

NAME = "pr_curve.json"


@dataclass(frozen=True)
class StoredCurve:
    """The micro-averaged curve of one direction of search.

    Args:
        direction: direction of search, such as image_to_text; empty with one view.
        recall: recall at each radius from 0; None where undefined.
        precision: precision at each radius from 0; None where undefined.
        area: area under the curve, AUPRC_micro; None if undefined.
    """

    direction: str
    recall: list[float | None]
    precision: list[float | None]
    area: float | None


def write_curves(folder: Path, curves: Mapping[str, tuple[PrecisionRecallCurve, float]]) -> None:
    """Write curves with their areas by direction into a run folder. The write is atomic."""
    rows = [
        {"direction": name, "recall": curve.recall.tolist(), "precision": curve.precision.tolist(), "area": area}
        for name, (curve, area) in curves.items()
    ]
    write_json(folder / NAME, replace_nonfinite(rows))


def read_curves(folder: Path) -> list[StoredCurve]:
    """Read the curves of a run; return an empty list for a run of an older version, which lacks the file.

    Raises:
        InvalidInputError: the file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return []
    RunFolder(folder).check_file(NAME)
    rows = read_json(path, "precision-recall curves")
    with reading(path, "precision-recall curves", "restore it, or score the run again"):
        return [_parse_curve(row) for row in rows]


def _parse_curve(row: Mapping[str, Any]) -> StoredCurve:
    recall, precision = ([_check_share(value) for value in row[name]] for name in ("recall", "precision"))
    if len(recall) != len(precision):
        raise ValueError(f"{len(recall)} values of recall and {len(precision)} of precision")
    return StoredCurve(str(row["direction"]), recall, precision, _check_share(row["area"]))


def _check_share(value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{value} where a number from 0 to 1 is expected")
    return None if value is None else float(value)
