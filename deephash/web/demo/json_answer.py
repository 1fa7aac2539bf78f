"""Answers in JSON that hold whatever names and numbers the user's data have."""

import json
from typing import Any

from fastapi.responses import JSONResponse

from deephash.report.tables import replace_nonfinite


class JSONAnswer(JSONResponse):
    """Any text and any number as JSON: NaN and infinity are null, and half letters, as of file names, are escaped."""

    def render(self, content: Any) -> bytes:
        """The bytes of a value."""
        return json.dumps(replace_nonfinite(content), allow_nan=False, separators=(",", ":")).encode()
