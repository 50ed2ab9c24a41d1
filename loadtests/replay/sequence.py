"""All that a replay sends, in order: events, mess, and a heartbeat at each moment of the grid."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from loadtests.replay.mess import HOLD, Kind, Mess, Sending
from loadtests.upstream import GRID, Source, heartbeat


def sequence(source: Source, mess: Mess, *, begins: datetime, after: datetime) -> Iterator[Sending]:
    """What comes after the grid's moment `after` in the replay that begins at `begins`. Never ends: heartbeats go on.

    The same, byte for byte, wherever it is entered: who resumes gets what is left.
    """
    beat = after + GRID
    for sending in mess.mix(source.after(max(begins, after - HOLD))):
        if sending.due <= after:
            continue
        while beat < sending.due:
            yield _heartbeat(beat)
            beat += GRID
        yield sending
    while True:
        yield _heartbeat(beat)
        beat += GRID


def _heartbeat(known_by: datetime) -> Sending:
    beat = heartbeat(known_by)
    return Sending(known_by, beat.event_id, Kind.HEARTBEAT, beat)
