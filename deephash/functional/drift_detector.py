"""Drift detectors of river, which find changes in the mean of a signal."""

from typing import Any

from deephash.validation import InvalidInputError


def build_detector(name: str, settings: dict[str, Any]) -> Any:
    """Build a drift detector of river.

    Args:
        name: class of the detector in river.drift.
        settings: arguments of the class.

    Raises:
        InvalidInputError: river is not installed, has no such detector, or the detector rejects the settings.
    """
    try:
        import river.drift
    except ImportError as error:
        raise InvalidInputError(
            f"the drift detector {name} needs river, which is not installed: pip install 'deephash[stream]'."
        ) from error
    detector = getattr(river.drift, name, None)
    if detector is None:
        raise InvalidInputError(f"detector={name} is not in river.drift; give ADWIN, KSWIN or PageHinkley.")
    try:
        return detector(**settings)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"settings={settings} do not suit river's {name} ({error}).") from error
