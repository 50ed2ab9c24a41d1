"""How things look on a terminal: consoles, tables, and numbers and moments in words."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.chassis.clock import from_proto

UNKNOWN = "\N{EN DASH}"
_PIPE_WIDTH = 200
"""Columns when nobody's terminal sets the width: rows stay on one line for grep."""
_TINY = 0.001

_COLOURS = {
    "champion": "green",
    "challenger": "yellow",
    "ready": "green",
    "running": "yellow",
    "paused": "yellow",
    "successful": "green",
    "registered": "green",
    "failed": "red",
    "error": "red",
    "refused": "red",
    "aborted": "red",
}


def out() -> Console:
    """Standard output, as it is now."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def err() -> Console:
    """Standard error; long words stay on one line."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table; a column that ends in `>` is right-aligned."""
    made = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left")
    return made


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Names and values, one pair a line; values may hold markup."""
    made = Table.grid(padding=(0, 2, 0, 0))
    for name, value in pairs:
        made.add_row(f"[bold]{name}[/]", value)
    return made


def coloured(word: str) -> str:
    """A state, stage or phase in its colour."""
    colour = _COLOURS.get(word)
    return f"[{colour}]{escape(word)}[/]" if colour else escape(word)


def number(value: float | None, digits: int = 4) -> str:
    """A measure with fixed digits."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def measure(value: float) -> str:
    """A metric of which only the name is known: a count, a measure, or something tiny."""
    if value == int(value):
        return f"{int(value):,}"
    return number(value) if abs(value) >= _TINY else f"{value:.1e}"


def share(basis_points: int) -> str:
    """Basis points as per cent."""
    return f"{basis_points / 100:g} %"


def moment(stamp: Timestamp | datetime | None) -> str:
    """To the second, UTC. A Timestamp that was never set is unknown."""
    if stamp is None or stamp == Timestamp():
        return UNKNOWN
    at = from_proto(stamp) if isinstance(stamp, Timestamp) else stamp
    return f"{at:%Y-%m-%d %H:%M:%S}"
