"""Tells a person what happens: a spinner on a terminal, plain lines anywhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

Say = Callable[[str], None]


class Progress:
    """The steps of a long start, each with its time."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, text: str) -> Iterator[Say]:
        """Show that `text` is being done; call what this gives with details that change."""
        begun = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(text) as status:
                yield lambda detail: status.update(f"{text}: {detail}")
        else:
            self.console.print(f"- {text}")
            yield lambda _: None
        self.console.print(f"[green]✓[/] {text} [dim]({time.monotonic() - begun:.1f} s)[/]", highlight=False)
