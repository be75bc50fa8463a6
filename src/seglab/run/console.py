"""Where jobs print: text is shown as it is, for rich takes [default,ema] for a style and leaves it out."""

from rich.console import Console


def plain_console(*, soft_wrap: bool = False) -> Console:
    """A console without markup and without colours of its own.

    Args:
        soft_wrap: leave long lines to the terminal, so that they can be copied in one piece.
    """
    return Console(markup=False, highlight=False, soft_wrap=soft_wrap)
