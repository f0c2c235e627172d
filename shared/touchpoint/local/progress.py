"""Shows the progress of a long start: a spinner on a terminal, plain lines without one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

Say = Callable[[str], None]


class Progress:
    """Prints the steps of a long start, each with its duration."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, text: str) -> Iterator[Say]:
        """Show that step `text` is in progress; yields a function that shows a detail of it."""
        begun = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(text) as status:
                yield lambda detail: status.update(f"{text}: {detail}")
        else:
            self.console.print(f"- {text}")
            yield lambda _: None
        self.console.print(f"[green]✓[/] {text} [dim]({time.monotonic() - begun:.1f} s)[/]", highlight=False)
