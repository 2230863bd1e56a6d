"""The progress display of commands that take long."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, ProgressColumn


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A display on standard error that is removed at its end; without a terminal it shows nothing.

    columns  what it shows; by default the description, a bar, the percentage and the time that is left
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows that something is done whose end is not known."""
    with progress_bar() as progress:
        progress.add_task(what, total=None)
        yield
