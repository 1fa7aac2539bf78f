"""Scoring of codes against a ground truth, the Lightning loop around it, and the report of a run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deephash.evaluation.fitted_truth import FittedTruth
    from deephash.evaluation.scoring import Scores, ScoreSettings, score_codes, score_counts

__all__ = ["FittedTruth", "ScoreSettings", "Scores", "score_codes", "score_counts"]

HOMES = {name: "fitted_truth" if name == "FittedTruth" else "scoring" for name in __all__}


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
