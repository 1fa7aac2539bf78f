"""Detectors of drift, river's: has the mean of a signal changed?"""

from typing import Any

from deephash.validation import InvalidInputError


def build_detector(name: str, settings: dict[str, Any]) -> Any:
    """A drift detector of river's.

    Args:
        name: its class in river.drift.
        settings: its arguments.

    Raises:
        InvalidInputError: river is not installed, or has no such detector, or that does not take the settings.
    """
    try:
        import river.drift
    except ImportError as error:
        raise InvalidInputError(
            f"the drift detector {name} needs river, which is not installed: pip install 'deephash[stream]'."
        ) from error
    found = getattr(river.drift, name, None)
    if found is None:
        raise InvalidInputError(f"detector={name} is not in river.drift; give ADWIN, KSWIN or PageHinkley.")
    try:
        return found(**settings)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"settings={settings} do not suit river's {name} ({error}).") from error
