"""Log lines of several processes as one stream for people: time, process, event, and its keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from rich.markup import escape

from services.cli.display import out
from services.cli.log_files import Line, LogFiles

_PAUSE_S = 0.2
_NAME_WIDTH = 20
_COLOURS = ("cyan", "magenta", "blue", "green", "yellow")
_LEVELS = {"warning": "yellow", "error": "red", "critical": "bold red"}
_SHOWN_APART = {"timestamp", "service", "level", "event", "exception"}


def show_until(lines: LogFiles, ended: Callable[[], bool]) -> None:
    """Prints what comes until `ended`, and then what came before that."""
    over = False
    while not over:
        over = ended()
        show(lines.new())
        if not over:
            time.sleep(_PAUSE_S)


def show(lines: Iterable[Line]) -> None:
    """Prints them as they are ordered."""
    console = out()
    for line in lines:
        console.print(rendered(line), soft_wrap=True)


def rendered(line: Line) -> str:
    """In rich's markup."""
    colour = _COLOURS[sum(line.process.encode()) % len(_COLOURS)]
    name = f"[{colour}]{line.process:<{_NAME_WIDTH}}[/]"
    record = line.record
    if "event" not in record:
        return f"{' ' * 8} {name} {escape(line.text)}"
    keys = " ".join(f"{key}={value}" for key, value in record.items() if key not in _SHOWN_APART)
    event = escape(str(record["event"]))
    level = _LEVELS.get(str(record.get("level")))
    words = f"[{level}]{event}[/]" if level else f"[bold]{event}[/]"
    exception = f"\n{escape(str(record['exception']))}" if "exception" in record else ""
    return f"[dim]{line.timestamp[11:19]:8}[/] {name} {words} {escape(keys)}{exception}"
