"""Text for a terminal of 80 columns."""

import textwrap

WIDTH = 80


def wrapped(text: str, indent: str = "", *, hanging: str | None = None) -> str:
    """Text in lines of at most 80 characters. Words stay whole, so commands and places in the log can be copied.

    `indent` is before each line, `hanging` before all but the first.
    """
    following = indent if hanging is None else hanging
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )
