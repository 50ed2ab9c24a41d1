"""What upstream sends: CloudEvents in the order in which they became known, and where they come from."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

HEARTBEAT = "slipway.heartbeat"
GRID = timedelta(minutes=5)
"""Event time between two heartbeats; moments that a replay starts and ends at lie on it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Upstream:
    """An event as upstream sends it: when it became known, its id, its CloudEvents type and the CloudEvent's JSON."""

    recorded_at: datetime
    event_id: str
    type: str
    value: bytes


class Source(Protocol):
    """A problem's upstream. The same source gives the same events, byte for byte."""

    @property
    def begins(self) -> datetime:
        """Nothing became known at or before it."""

    @property
    def ends(self) -> datetime:
        """Everything became known by it."""

    def after(self, moment: datetime) -> Iterator[Upstream]:
        """The events that became known after `moment`, ordered by (recorded_at, event_id)."""


class Listed:
    """A source that is small enough to hold: any events, in any order."""

    def __init__(self, events: Sequence[Upstream]) -> None:
        self._events = sorted(events, key=lambda event: (event.recorded_at, event.event_id))
        self._known = [event.recorded_at for event in self._events]

    @property
    def begins(self) -> datetime:
        return on_grid(self._known[0]) - GRID

    @property
    def ends(self) -> datetime:
        return on_grid(self._known[-1])

    def after(self, moment: datetime) -> Iterator[Upstream]:
        yield from self._events[bisect_right(self._known, moment) :]


def cloud_event(
    event_id: str, kind: str, source: str, *, time: datetime, recorded_at: datetime, data: Mapping[str, Any]
) -> Upstream:
    """An event in structured JSON mode. `time` is when it happened, `recorded_at` when upstream knew it."""
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": kind,
        "time": instant(time),
        "recordedtime": instant(recorded_at),
        "datacontenttype": "application/json",
        "data": data,
    }
    return Upstream(recorded_at, event_id, kind, json.dumps(event).encode())


def heartbeat(known_by: datetime) -> Upstream:
    """ "You have everything that became known by then"."""
    return cloud_event(
        f"heartbeat/{instant(known_by)}", HEARTBEAT, "/replay", time=known_by, recorded_at=known_by, data={}
    )


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC to the second, with a trailing Z."""
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def on_grid(moment: datetime) -> datetime:
    """The first moment of the grid that is not before `moment`."""
    return moment + (_EPOCH - moment) % GRID
