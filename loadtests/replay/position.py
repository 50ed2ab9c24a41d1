"""How far a replay is, in a file: enough to go on after a SIGKILL as if nothing had happened.

The file may be older than the topic; what the topic holds beyond it is recognised by its bytes (see topic.py).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from loadtests.replay.questions import Open
from loadtests.replay.totals import Totals
from services.chassis.clock import parse_rfc3339, rfc3339
from services.chassis.errors import Invalid

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the sequence: `sent` records after the grid's moment `after` lie behind it."""

    after: datetime
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """What is durable: everything before `cursor` lies in the topic before `offset`, and the totals count it.

    `open` says which questions of the events before the cursor are not over (None: all are), `answers_bytes` how long
    the file of answers was by then.
    """

    cursor: Cursor
    offset: int
    totals: Totals = field(default_factory=Totals)
    open: Open | None = None
    answers_bytes: int = 0


class PositionFile:
    """Keeps the last position. `replay` says what is replayed: another replay's file is refused."""

    def __init__(self, path: Path, replay: dict[str, Any]) -> None:
        self._path = path
        self._replay = replay

    def read(self) -> Position | None:
        """None if there is no file. Raises Invalid if it is another replay's."""
        if not self._path.exists():
            return None
        told = json.loads(self._path.read_bytes())
        if (told.get("format"), told.get("replay")) != (_FORMAT, self._replay):
            raise Invalid(
                f"{self._path} is the position of another replay: {told.get('replay')}, expected {self._replay}; "
                "remove it to begin anew, or choose another --state"
            )
        return Position(
            cursor=Cursor(parse_rfc3339(told["after"]), told["sent"]),
            offset=told["offset"],
            totals=Totals.from_dict(told["totals"]),
            open=_read_open(told["open"]),
            answers_bytes=told["answers_bytes"],
        )

    def write(self, position: Position) -> None:
        """All or nothing."""
        told = {
            "format": _FORMAT,
            "replay": self._replay,
            "after": rfc3339(position.cursor.after),
            "sent": position.cursor.sent,
            "offset": position.offset,
            "totals": position.totals.as_dict(),
            "open": _tell_open(position.open),
            "answers_bytes": position.answers_bytes,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(told, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


def _read_open(told: dict[str, Any] | None) -> Open | None:
    if told is None:
        return None
    since, before = parse_rfc3339(told["questions_from"]), parse_rfc3339(told["settled_before"])
    return Open(since, before, frozenset(told["settled"]))


def _tell_open(questions: Open | None) -> dict[str, Any] | None:
    if questions is None:
        return None
    return {
        "questions_from": rfc3339(questions.questions_from),
        "settled_before": rfc3339(questions.settled_before),
        "settled": sorted(questions.settled),
    }
