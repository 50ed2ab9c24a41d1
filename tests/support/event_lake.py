"""An event lake with given events in it, written as the lake process writes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from services.chassis.clock import parse_rfc3339, to_us
from services.ingestion.lake.rows import Row
from services.ingestion.lake.table import Source
from services.ingestion.lake.writer import LakeWriter
from services.problem import EventType
from services.topics import events_topic
from tests.support.feature_oracle import FactualEvent

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class TypedEvent:
    """An accepted event: `event.payload` has the computed fields too."""

    type: str
    event: FactualEvent


class EventLake:
    """`folder` holds the Delta tables."""

    def __init__(self, folder: Path, event_types: Mapping[str, EventType]) -> None:
        self.folder = folder
        self._event_types = event_types
        self._writer = LakeWriter(str(folder), event_types, 1_000_000)
        self._offset = 0

    def accepted(self, event_type: str, event_id: str, time: datetime, known: datetime, **data: Any) -> TypedEvent:
        """As ingestion would accept it. Raises pydantic's ValidationError if it would not."""
        payload = self._event_types[event_type].payload.model_validate(data).model_dump(mode="json")
        return TypedEvent(event_type, FactualEvent(event_id, to_us(time), to_us(known), payload))

    def from_cloud_event(self, document: bytes) -> TypedEvent:
        """Of a CloudEvent with `recordedtime`."""
        given = json.loads(document)
        time, known = parse_rfc3339(given["time"]), parse_rfc3339(given["recordedtime"])
        return self.accepted(given["type"], given["id"], time, known, **given["data"])

    def add(self, events: Iterable[TypedEvent]) -> None:
        """One commit for each type that has any."""
        for each in events:
            event, self._offset = each.event, self._offset + 1
            row = Row(
                event.event_id,
                event.event_time_us,
                event.available_at_us,
                event.available_at_us,
                ("upstream.events.v1", 0, self._offset),
                event.event_time_us // _DAY_US,
                json.dumps(event.payload).encode(),
            )
            self._writer.add(each.type, row, _source(each.type), self._offset)
        self._writer.flush()

    def reached(self, known_by: datetime, *event_types: str) -> None:
        """The watermark of these types (none named: of all)."""
        for name in event_types or self._event_types:
            self._offset += 1
            self._writer.watermark(name, to_us(known_by), _source(name), self._offset)
        self._writer.flush()


def _source(event_type: str) -> Source:
    return Source(events_topic(event_type).name, 0)
