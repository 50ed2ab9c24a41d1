"""Events of all types on their way into the lake: held until the next flush, then committed type by type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa

from services.ingestion import metrics
from services.ingestion.columns import payload_columns
from services.ingestion.lake.known_ids import DayIds, KnownIds
from services.ingestion.lake.rows import (
    DUPLICATES,
    DUPLICATES_SCHEMA,
    Duplicate,
    Origin,
    Row,
    as_date,
    as_day,
    duplicates_table,
    rows_table,
    table_schema,
)
from services.ingestion.lake.sorting import Sorted, Waiting, sort_out
from services.ingestion.lake.table import LakeTable, Source
from services.problem import EventType

_ORIGIN = ("source_topic", "source_partition", "source_offset")


class LakeWriter:
    """Nothing is kept of a record before `flush` returns; what is added again after a crash is told from what is new.

    Raises Unavailable when the store does not answer; the writer is of no use then, make another one.
    """

    def __init__(self, lake: str, event_types: Mapping[str, EventType], max_known_ids: int) -> None:
        """Opens every table, creates those that do not exist."""
        root = lake.rstrip("/")
        self._types = {name: _TypeWriter(f"{root}/{name}", event_type) for name, event_type in event_types.items()}
        self._duplicates = LakeTable(f"{root}/{DUPLICATES}", DUPLICATES_SCHEMA, partitioned=False)
        self._known = KnownIds(self._load, max_known_ids)

    @property
    def waiting(self) -> int:
        """Rows that wait for the next flush."""
        return sum(len(each.waiting) for each in self._types.values())

    @property
    def watermark_moved(self) -> bool:
        """Whether a table's watermark is behind what was read."""
        return any(each.watermark_moved for each in self._types.values())

    def add(self, event_type: str, row: Row, source: Source, offset: int) -> None:
        """An event read from its topic."""
        self._types[event_type].add(row, source, offset)

    def watermark(self, event_type: str, watermark_us: int, source: Source, offset: int) -> None:
        """Every event of the type that was available by then has been added (microseconds)."""
        self._types[event_type].watermark(watermark_us, source, offset)

    def flush(self) -> None:
        """Commits what waits: the rows of each type, then the duplicates of all."""
        sorted_out = {name: each.flush(self._known) for name, each in self._types.items() if each.touched}
        duplicates = [duplicate for result in sorted_out.values() for duplicate in result.duplicates]
        if duplicates:
            self._duplicates.append(duplicates_table(duplicates), {}, None)
            self._remember(duplicates)
        for name, result in sorted_out.items():
            metrics.LAKE_DUPLICATES.labels(name).inc(len(result.duplicates))
            metrics.LAKE_REDELIVERIES.labels(name).inc(result.redeliveries)
        self._known.shrink()

    def _remember(self, duplicates: list[Duplicate]) -> None:
        for duplicate in duplicates:
            self._known.of(duplicate.type, duplicate.day).duplicates.add(duplicate.origin)

    def _load(self, event_type: str, day: int) -> DayIds:
        writer = self._types[event_type]
        if not writer.has_rows(day):
            return DayIds()
        table = self._duplicates.read(_ORIGIN, type=event_type, event_date=as_date(day))
        return DayIds(writer.ids(day), set(_origins(table)))


class _TypeWriter:
    """The table of one event type and what waits for it."""

    def __init__(self, uri: str, event_type: EventType) -> None:
        self._name = event_type.name
        self._schema = table_schema(payload_columns(event_type))
        self._table = LakeTable(uri, self._schema)
        self._days = {as_day(day) for day in self._table.dates()}
        self._watermark_us = self._table.watermark_us
        self._offsets: dict[Source, int] = {}
        self.waiting: list[Waiting] = []

    @property
    def watermark_moved(self) -> bool:
        return self._watermark_us != self._table.watermark_us

    @property
    def touched(self) -> bool:
        return bool(self.waiting) or self.watermark_moved

    def add(self, row: Row, source: Source, offset: int) -> None:
        self.waiting.append(Waiting(row, offset <= self._table.covered(source)))
        self._offsets[source] = offset

    def watermark(self, watermark_us: int, source: Source, offset: int) -> None:
        self._watermark_us = max(watermark_us, self._watermark_us or watermark_us)
        self._offsets[source] = offset

    def flush(self, known: KnownIds) -> Sorted:
        """Commits the rows that are new; the duplicates are the caller's."""
        result = sort_out(self._name, self.waiting, lambda day: known.of(self._name, day))
        offsets = {source: max(offset, self._table.covered(source)) for source, offset in self._offsets.items()}
        self._table.append(rows_table(result.rows, self._schema) if result.rows else None, offsets, self._watermark_us)
        for row in result.rows:
            known.of(self._name, row.day).rows[row.event_id] = row.origin
            self._days.add(row.day)
        self.waiting, self._offsets = [], {}
        self._show(len(result.rows))
        return result

    def has_rows(self, day: int) -> bool:
        return day in self._days

    def ids(self, day: int) -> dict[str, Origin]:
        """The ids of an event date and where their rows come from."""
        table = self._table.read(("event_id", *_ORIGIN), event_date=as_date(day))
        return dict(zip(table["event_id"].to_pylist(), _origins(table), strict=True))

    def _show(self, rows: int) -> None:
        metrics.LAKE_COMMITS.labels(self._name).inc()
        metrics.LAKE_ROWS.labels(self._name).inc(rows)
        if self._watermark_us is not None:
            metrics.LAKE_WATERMARK.labels(self._name).set(self._watermark_us / 1e6)


def _origins(table: pa.Table) -> Iterator[Origin]:
    return zip(*(table[name].to_pylist() for name in _ORIGIN), strict=True)
