"""How an error is shown."""


def show_error(text: str, label: str = "error: ") -> None:
    """One line on standard error, red on a terminal."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(label + " ".join(text.split()), style="bold red"))
