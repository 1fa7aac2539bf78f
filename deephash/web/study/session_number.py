"""Numbers of sessions, which identify participants and let them delete their answers later."""

import secrets

from deephash.validation import InvalidInputError

# A number of 12 digits can be noted down, but not guessed to delete the answers of another participant.
MIN_NUMBER, END_NUMBER = 10**11, 10**12


def draw_session_number() -> int:
    """Draw a number for a new participant, which may already be in use."""
    return MIN_NUMBER + secrets.randbelow(END_NUMBER - MIN_NUMBER)


def format_session(session: int) -> str:
    """Format a number in groups of four digits."""
    digits = f"{session:012d}"
    return " ".join(digits[place : place + 4] for place in range(0, len(digits), 4))


def parse_session(text: str) -> int:
    """Parse a number as a participant noted it.

    Raises:
        InvalidInputError: the text is not a number of 12 digits.
    """
    digits = "".join(text.replace("-", " ").split())
    if not (digits.isascii() and digits.isdecimal() and len(digits) == 12 and digits[0] != "0"):
        raise InvalidInputError(
            f"session={text[:40]!r}; expected 12 digits, the first of them not 0, such as 1234 5678 9012."
        )
    return int(digits)
