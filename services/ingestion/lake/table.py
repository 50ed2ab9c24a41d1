"""One Delta table: appended with the transaction of its topic-partitions and the watermark in the same commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, NamedTuple

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from services.chassis.clock import parse_rfc3339, rfc3339, to_us
from services.chassis.errors import Invalid, Unavailable
from services.ingestion.lake.rows import PARTITION, as_moment

WATERMARK = "slipway.watermark"
# How many commits back the last watermark is looked for: others (a compaction) may have committed since.
_HISTORY = 100
_WRITER = WriterProperties(compression="ZSTD")


class Source(NamedTuple):
    """A partition of an events topic."""

    topic: str
    partition: int

    @property
    def application_id(self) -> str:
        """What its transactions are called in Delta's log."""
        return f"{self.topic}-{self.partition}"


class LakeTable:
    """A table with one writer: us. Raises Unavailable when the store does not take or give something."""

    def __init__(self, uri: str, schema: pa.Schema, *, partitioned: bool = True) -> None:
        """Opens the table; creates it, or adds the columns that it lacks.

        Raises Invalid if a column exists with another type.
        """
        self._uri = uri
        self._partition_by = [PARTITION] if partitioned else []
        with _store(uri):
            self._table = DeltaTable.create(
                uri, Schema.from_arrow(schema), mode="ignore", partition_by=self._partition_by
            )
            self._add_columns(Schema.from_arrow(schema))
        self._covered: dict[Source, int] = {}
        self.watermark_us = self._last_watermark()

    def covered(self, source: Source) -> int:
        """The last offset of this topic-partition that a commit has taken in; -1 if none."""
        if source not in self._covered:
            with _store(self._uri):
                version = self._table.transaction_version(source.application_id)
            self._covered[source] = -1 if version is None else version
        return self._covered[source]

    def append(self, rows: pa.Table | None, offsets: Mapping[Source, int], watermark_us: int | None) -> None:
        """One commit: the rows (None: only the rest), the last offset of each topic-partition, the watermark."""
        properties = self._commit_properties(offsets, watermark_us)
        with _store(self._uri):
            if rows is None:
                self._table.create_write_transaction(
                    [], "append", self._table.schema(), self._partition_by, commit_properties=properties
                )
                self._table.update_incremental()
            else:
                write_deltalake(
                    self._table,
                    rows,
                    mode="append",
                    partition_by=self._partition_by or None,
                    writer_properties=_WRITER,
                    commit_properties=properties,
                )
        self._covered |= offsets
        self.watermark_us = watermark_us

    def dates(self) -> set[date]:
        """The event dates that have rows."""
        with _store(self._uri):
            return {date.fromisoformat(partition[PARTITION]) for partition in self._table.partitions()}

    def read(self, columns: Sequence[str], **equal: Any) -> pa.Table:
        """The columns of the rows in which each named column has the given value."""
        with _store(self._uri):
            filters = [(name, "=", value) for name, value in equal.items()]
            return self._table.to_pyarrow_table(columns=list(columns), filters=filters)

    def _commit_properties(self, offsets: Mapping[Source, int], watermark_us: int | None) -> CommitProperties:
        return CommitProperties(
            custom_metadata=None if watermark_us is None else {WATERMARK: rfc3339(as_moment(watermark_us))},
            app_transactions=[Transaction(source.application_id, offset) for source, offset in offsets.items()],
        )

    def _add_columns(self, wanted: Schema) -> None:
        present = {field.name: field.type for field in self._table.schema().fields}
        for field in wanted.fields:
            if field.name in present and present[field.name] != field.type:
                raise Invalid(
                    f"{self._uri}: column {field.name!r} is {present[field.name]}, the payload says {field.type}; "
                    "give the field a new name, or move the table away and replay its events"
                )
        if missing := [field for field in wanted.fields if field.name not in present]:
            self._table.alter.add_columns(missing)

    def _last_watermark(self) -> int | None:
        with _store(self._uri):
            commits = self._table.history(_HISTORY)
        return next((to_us(parse_rfc3339(commit[WATERMARK])) for commit in commits if WATERMARK in commit), None)


@contextmanager
def _store(uri: str) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OSError) as error:
        raise Unavailable(f"{uri}: {error}") from error
