"""Wrap text for a terminal of 80 columns."""

import textwrap

WIDTH = 80


def wrapped(text: str, indent: str = "", *, hanging: str | None = None) -> str:
    """The text in lines of at most 80 characters; longer words stay whole, so that commands and offsets can be copied.

    `indent` precedes every line; `hanging`, if given, replaces it in all lines but the first.
    """
    following = indent if hanging is None else hanging
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )
