"""Numbers of sessions: all that a participant is known by, noted down to delete one's answers later."""

import secrets

from deephash.validation import InvalidInputError

# Numbers of 12 digits: short enough to note down, too many to guess one that deletes another's answers.
FEWEST, MOST = 10**11, 10**12


def random_session_number() -> int:
    """A number for a new participant, which may be taken."""
    return FEWEST + secrets.randbelow(MOST - FEWEST)


def session_text(session: int) -> str:
    """A number as it is noted down, in groups of four digits."""
    digits = f"{session:012d}"
    return " ".join(digits[place : place + 4] for place in range(0, len(digits), 4))


def session_number(text: str) -> int:
    """The number that was noted down.

    Raises:
        InvalidInputError: no number of 12 digits.
    """
    digits = "".join(text.replace("-", " ").split())
    if not (digits.isascii() and digits.isdecimal() and len(digits) == 12 and digits[0] != "0"):
        raise InvalidInputError(
            f"session={text[:40]!r}; expected its 12 digits, of which the first is not 0, as 1234 5678 9012."
        )
    return int(digits)
