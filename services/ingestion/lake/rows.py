"""A row of the lake, and the Arrow schemas of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic_core import from_json

from services.chassis.clock import proto_us
from services.contracts.events.v1.events_pb2 import Event
from services.ingestion.columns import Kind

DUPLICATES = "_duplicates"
PARTITION = "event_date"
_DAY_US = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MOMENT = pa.timestamp("us", tz="UTC")
_ORIGIN = [
    pa.field("source_topic", pa.string(), nullable=False),
    pa.field("source_partition", pa.int32(), nullable=False),
    pa.field("source_offset", pa.int64(), nullable=False),
]
_DATE = pa.field(PARTITION, pa.date32(), nullable=False)
_ARROW = {
    Kind.STRING: pa.string(),
    Kind.INT64: pa.int64(),
    Kind.FLOAT64: pa.float64(),
    Kind.BOOL: pa.bool_(),
}

DUPLICATES_SCHEMA = pa.schema(
    [pa.field("event_id", pa.string(), nullable=False), pa.field("type", pa.string(), nullable=False), *_ORIGIN, _DATE]
)


Origin = tuple[str, int, int]
"""Coordinates of an upstream record: topic, partition, offset. A plain tuple, which the collector does not track."""


class Row(NamedTuple):
    """An accepted event. Times in microseconds since the epoch; `day` in days since the epoch."""

    event_id: str
    event_time_us: int
    available_at_us: int
    processed_at_us: int
    origin: Origin
    day: int
    payload_json: bytes


class Duplicate(NamedTuple):
    """A second upstream record with an id that the lake has already."""

    event_id: str
    type: str
    origin: Origin
    day: int


def row_of(event: Event) -> Row:
    """From the wire."""
    event_time_us, origin = proto_us(event.event_time), event.origin
    return Row(
        event.event_id,
        event_time_us,
        proto_us(event.available_at),
        proto_us(event.processed_at),
        (origin.topic, origin.partition, origin.offset),
        event_time_us // _DAY_US,
        event.payload_json,
    )


def as_date(day: int) -> date:
    """Days since the epoch as a date."""
    return date.fromordinal(day + _EPOCH_DAY)


def as_day(day: date) -> int:
    """A date as days since the epoch."""
    return day.toordinal() - _EPOCH_DAY


def as_moment(us: int) -> datetime:
    """Microseconds since the epoch as an aware UTC instant."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)


def table_schema(columns: Mapping[str, Kind]) -> pa.Schema:
    """The platform's columns, those of the payload, the partition's."""
    return pa.schema(
        [
            pa.field("event_id", pa.string(), nullable=False),
            *(pa.field(name, _MOMENT, nullable=False) for name in ("event_time", "available_at", "processed_at")),
            *_ORIGIN,
            *(pa.field(name, _ARROW[kind]) for name, kind in columns.items()),
            _DATE,
        ]
    )


def rows_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """The rows as Arrow; a payload field that the schema does not know is left out, one that is missing is null."""
    payloads = [from_json(row.payload_json) for row in rows]
    values: dict[str, list[Any]] = {
        "event_id": [row.event_id for row in rows],
        "event_time": [row.event_time_us for row in rows],
        "available_at": [row.available_at_us for row in rows],
        "processed_at": [row.processed_at_us for row in rows],
        **_columns_of([row.origin for row in rows], [row.day for row in rows]),
    }
    for name in schema.names:
        if name not in values:
            values[name] = [payload.get(name) for payload in payloads]
    return _table(values, schema)


def duplicates_table(duplicates: Sequence[Duplicate]) -> pa.Table:
    """The duplicates as Arrow."""
    values = {
        "event_id": [each.event_id for each in duplicates],
        "type": [each.type for each in duplicates],
        **_columns_of([each.origin for each in duplicates], [each.day for each in duplicates]),
    }
    return _table(values, DUPLICATES_SCHEMA)


def _columns_of(origins: Sequence[Origin], days: Sequence[int]) -> dict[str, list[Any]]:
    return {
        "source_topic": [topic for topic, _, _ in origins],
        "source_partition": [partition for _, partition, _ in origins],
        "source_offset": [offset for _, _, offset in origins],
        PARTITION: list(days),
    }


def _table(values: Mapping[str, list[Any]], schema: pa.Schema) -> pa.Table:
    return pa.table([pa.array(values[field.name], type=field.type) for field in schema], schema=schema)
