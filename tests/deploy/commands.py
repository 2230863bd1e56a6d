"""Command lines that stand in deployment files, read by the real command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from detector.cli import app

PROGRAM = "detector"


def parsed(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The command that `detector ARGUMENTS` names, such as `topics create`, and its options; nothing is run.

    raises an error of typer's  the command, an option or its value does not exist
    """
    command: Any = typer.main.get_command(app)
    context = command.make_context(PROGRAM, list(arguments))
    names = []
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
        names.append(name)
    return " ".join(names), context.params
