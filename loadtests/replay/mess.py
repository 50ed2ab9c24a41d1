"""Bad events mixed in, and exactly how many of each kind.

What becomes of an event hangs on its id and the seed alone, so the same replay makes the same mess wherever it resumes.

| kind | what is sent | what becomes of it |
|---|---|---|
| malformed, envelope, unknown_type, schema, expectation | besides the event: a spoilt copy, another id | dead letter |
| duplicate | the event again, a while later | in the lake's `_duplicates`; counts once |
| late | the event alone, known up to an hour late | accepted, available then |
| out_of_order | the event alone, minutes after its turn, recordedtime as it was | accepted, available when it came |
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

from loadtests.upstream import Upstream, instant
from services.chassis.clock import parse_rfc3339
from services.chassis.errors import Invalid
from services.problem import EventType

HOLD = timedelta(hours=1)
"""The longest that an event is held back."""
_LATE_MINUTES, _SHORT_MINUTES = (5, 60), (1, 15)


class Kind(StrEnum):
    """What a record of the replay is."""

    EVENT = "event"
    HEARTBEAT = "heartbeat"
    MALFORMED = "malformed"
    ENVELOPE = "envelope"
    UNKNOWN_TYPE = "unknown_type"
    SCHEMA = "schema"
    EXPECTATION = "expectation"
    DUPLICATE = "duplicate"
    LATE = "late"
    OUT_OF_ORDER = "out_of_order"


DEAD = (Kind.MALFORMED, Kind.ENVELOPE, Kind.UNKNOWN_TYPE, Kind.SCHEMA, Kind.EXPECTATION)
"""The kinds that become dead letters; each is named as its reason."""
FIRST = (Kind.EVENT, Kind.LATE, Kind.OUT_OF_ORDER)
"""The kinds of which each is one event, sent for the first time."""
_MESS = (*DEAD, Kind.DUPLICATE, Kind.LATE, Kind.OUT_OF_ORDER)


class Sending(NamedTuple):
    """One record: when its turn is (event time), what it is, and what it carries. Sorts by turn."""

    due: datetime
    event_id: str
    kind: Kind
    event: Upstream


@dataclass(frozen=True, slots=True)
class Mess:
    """`share` of the events (0..1) are drawn; each draws one of the eight kinds."""

    event_types: Mapping[str, EventType]
    share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise Invalid(f"mess: expected a share from 0 to 1, got {self.share}")

    def mix(self, events: Iterable[Upstream]) -> Iterator[Sending]:
        """The events with the mess among them, in the order in which they are sent."""
        held: list[Sending] = []
        for event in events:
            while held and held[0].due < event.recorded_at:
                yield heapq.heappop(held)
            for sending in self._become(event):
                heapq.heappush(held, sending)
        while held:
            yield heapq.heappop(held)

    def _become(self, event: Upstream) -> Iterator[Sending]:
        drawn = self._draw(event.event_id)
        kind = Kind.EVENT if drawn is None else drawn.choice(_MESS)
        if kind is Kind.LATE and drawn is not None:
            yield _late(event, drawn)
            return
        due = event.recorded_at
        if kind is Kind.OUT_OF_ORDER and drawn is not None:
            yield Sending(_later(due, drawn), event.event_id, kind, event)
            return
        yield Sending(due, event.event_id, Kind.EVENT, event)
        if kind is Kind.DUPLICATE and drawn is not None:
            yield Sending(_later(due, drawn), event.event_id, kind, event)
        elif drawn is not None:
            yield self._spoilt(event, kind, drawn)

    def _draw(self, event_id: str) -> random.Random | None:
        if self.share == 0:
            return None
        drawn = int.from_bytes(blake2b(f"{self.seed}:{event_id}".encode(), digest_size=8).digest())
        return random.Random(drawn) if drawn < self.share * 2**64 else None

    def _spoilt(self, event: Upstream, kind: Kind, chance: random.Random) -> Sending:
        event_id = f"{event.event_id}/{kind}"
        document = json.loads(event.value) | {"id": event_id}
        if kind is Kind.MALFORMED:
            value = chance.choice(_MALFORMED)(json.dumps(document).encode())
        else:
            self._spoil(document, kind, chance)
            value = json.dumps(document).encode()
        return Sending(event.recorded_at, event_id, kind, Upstream(event.recorded_at, event_id, event.type, value))

    def _spoil(self, document: dict[str, Any], kind: Kind, chance: random.Random) -> None:
        if kind is Kind.ENVELOPE:
            chance.choice(_ENVELOPE)(document)
        elif kind is Kind.UNKNOWN_TYPE:
            document["type"] += ".unheard_of"
        elif kind is Kind.SCHEMA:
            _spoil_schema(document["data"], chance)
        else:
            field, value = chance.choice(_unexpected(self.event_types[document["type"]]))
            document["data"][field] = value


def _late(event: Upstream, chance: random.Random) -> Sending:
    known = event.recorded_at + timedelta(minutes=chance.randint(*_LATE_MINUTES))
    value = json.dumps(json.loads(event.value) | {"recordedtime": instant(known)}).encode()
    return Sending(known, event.event_id, Kind.LATE, Upstream(known, event.event_id, event.type, value))


def _later(moment: datetime, chance: random.Random) -> datetime:
    return moment + timedelta(minutes=chance.randint(*_SHORT_MINUTES))


_MALFORMED: tuple[Callable[[bytes], bytes], ...] = (
    lambda value: value[: len(value) // 2],
    lambda value: b"\xff\xfe" + value,
    lambda value: b"[" + value + b"]",
    lambda _: b"",
)


def _recorded_before_time(document: dict[str, Any]) -> None:
    document["recordedtime"] = instant(parse_rfc3339(document["time"]) - timedelta(hours=1))


_ENVELOPE: tuple[Callable[[dict[str, Any]], object], ...] = (
    lambda document: document.pop("id"),
    lambda document: document.update(specversion="0.3"),
    lambda document: document.update(time="yesterday"),
    _recorded_before_time,
)


def _spoil_schema(data: dict[str, Any], chance: random.Random) -> None:
    field = chance.choice(sorted(data))
    way = chance.randrange(3)
    if way == 0:
        del data[field]
    elif way == 1:
        data[field] = {"nested": data[field]}
    else:
        data["nobody_knows"] = 1


def _unexpected(event_type: EventType) -> list[tuple[str, Any]]:
    """Values against the expectations of a payload: fields with a bound or a pattern. Raises Invalid if it has none."""
    schema = event_type.payload.model_json_schema()
    found = [(name, value) for name, field in schema["properties"].items() for value in _against(field)]
    if not found:
        raise Invalid(f"event type {event_type.name!r} expects nothing of its fields, so no mess can break it")
    return found


def _against(field: Mapping[str, Any]) -> list[Any]:
    """A value that breaks a JSON schema's bound or pattern; nothing if it has none."""
    for option in (field, *field.get("anyOf", ())):
        if "maximum" in option:
            return [option["maximum"] + 1]
        if "minimum" in option:
            return [option["minimum"] - 1]
        if "pattern" in option:
            return ["\u2620 out of pattern"]
    return []
