"""Expected causes end a command with one line that says what to do; bugs keep their traceback."""

from __future__ import annotations

from typing import Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperGroup

from services.chassis.errors import SlipwayError
from services.cli.display import err

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: it was tried and did not work; it was not begun; Ctrl-C came before it was done."""


class OneLineErrors(TyperGroup):
    """The command group at the top."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SlipwayError as error:
            fail(str(error))


def fail(words: str, code: int = FAILED) -> NoReturn:
    """Ends the command."""
    err().print(f"[bold red]error:[/] {escape(words)}")
    raise typer.Exit(code) from None
