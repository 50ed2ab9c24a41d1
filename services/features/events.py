"""A batch of the events topics as columns: one set for each event type, and how far each partition has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mmh3
from google.protobuf.message import DecodeError
from pydantic_core import from_json

from services.chassis.clock import proto_us
from services.chassis.kafka import Record
from services.chassis.logging import get_logger
from services.contracts.events.v1.events_pb2 import Event, EventRecord
from services.features import metrics

_PARSE = EventRecord.FromString


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one type, in order of arrival: event times and availabilities (microseconds), 64-bit ids, payloads."""

    times_us: list[int] = field(default_factory=list)
    available_us: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    payloads: list[dict[str, Any]] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """From the wire."""
        payload = from_json(event.payload_json)
        self.times_us.append(proto_us(event.event_time))
        self.available_us.append(proto_us(event.available_at))
        self.ids.append(hash64(event.event_id))
        self.payloads.append(payload)


@dataclass(frozen=True, slots=True)
class Batch:
    """`watermarks_us` by `<topic>/<partition>`: the last that was read, of those that told one."""

    events: dict[str, Events]
    watermarks_us: dict[str, int]


def parse(records: Sequence[Record], types: Mapping[str, str]) -> Batch:
    """`types` has the event type of each topic. A record that cannot be read is passed over, counted and logged."""
    batch = Batch({}, {})
    for record in records:
        try:
            message = _PARSE(record.value or b"")
            if message.HasField("event"):
                batch.events.setdefault(types[record.topic], Events()).add(message.event)
            elif message.HasField("watermark"):
                partition = partition_name(record.topic, record.partition)
                batch.watermarks_us[partition] = proto_us(message.watermark.available_at)
        except (DecodeError, ValueError) as error:
            metrics.UNREADABLE.inc()
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            get_logger().warning("record_unreadable", **where, error=str(error))
    return batch


def partition_name(topic: str, partition: int) -> str:
    """As progress names it."""
    return f"{topic}/{partition}"


def hash64(text: str) -> int:
    """Unsigned. Feast brings this hash; it is fast and the same everywhere."""
    found: int = mmh3.hash64(text, signed=False)[0]
    return found
