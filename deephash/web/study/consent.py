"""The text that participants agree to before the first query."""

# Studies in progress continue only with the same text. prose: off
CONSENT = (
    (
        "What it is",
        "You see queries and the results that two search methods found for them, and say which results fit better. You "
        "are not told which method is which, and neither answer is wrong.",
    ),
    (
        "What is kept",
        "For each query: what was shown and in which order, what you chose, your ratings, and the seconds that you "
        "took. They are stored on the machine that serves this page.",
    ),
    ("Why", "To estimate which method people prefer, and whether scores computed without people agree with them."),
    (
        "No personal data",
        "No name, no address, no account, no date and no description of your browser is kept. A random number stands "
        "for this session; this tab remembers it until it is closed.",
    ),
    ("Stopping", "Taking part is voluntary. Stop at any time, without a reason; answers given until then are kept."),
    (
        "Deletion",
        "To have all answers of this session deleted, press “Delete my answers”, now or at the end, or give its number "
        "to whoever runs the study at any time later. The number is shown on the page: note it down, since nobody else "
        "can tell which session was yours.",
    ),
)
# prose: on


def get_consent(contact: str) -> list[tuple[str, str]]:
    """Return headings and sentences of the consent text.

    Args:
        contact: who runs the study and how to reach them; empty if participants know.
    """
    return [*CONSENT, *([("Who asks", contact)] if contact else [])]
