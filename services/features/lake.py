"""The event lake as it was at one moment: a version of each Delta table, and how far the events in them reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import pyarrow as pa
import pyarrow.dataset as pads
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from services.chassis.clock import from_us, parse_rfc3339, rfc3339, to_us
from services.chassis.errors import Conflict, Unavailable

Tell = Callable[[str], None]

WATERMARK = "slipway.watermark"
_TIMES = ("event_time", "available_at")
_DATE = "event_date"
# How many commits back the last watermark is looked for: others (a compaction) may have committed since.
_HISTORY = 100
_ASK_AGAIN_S = 1.0


class _Table:
    """A version of a table."""

    def __init__(self, delta: DeltaTable) -> None:
        self.version: int = delta.version()
        self.watermark_us = _watermark_us(delta)
        self._delta = delta

    @cached_property
    def dataset(self) -> pads.Dataset:
        """Its files; made once, since a table may have thousands."""
        return self._delta.to_pyarrow_dataset()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is read of the lake: always the same, whatever is committed meanwhile."""

    lake: str
    tables: Mapping[str, _Table] = field(repr=False)
    missing: tuple[str, ...] = ()
    """Event types that were asked for and have no table: the lake process, which creates all, has not begun."""

    @property
    def versions(self) -> dict[str, int]:
        """The version of each event type's table; a type that has none yet is not there."""
        return {name: table.version for name, table in self.tables.items()}

    @property
    def watermark_us(self) -> int | None:
        """Every event of these types that was available before is in the snapshot. None: not known yet."""
        marks = [table.watermark_us for table in self.tables.values()]
        known = [mark for mark in marks if mark is not None]
        return min(known) if known and len(known) == len(marks) and not self.missing else None

    def read(
        self, event_type: str, columns: Sequence[str], *, since_us: int | None = None, until_us: int | None = None
    ) -> pa.Table | None:
        """The columns of the events with `since_us ≤ event_time ≤ until_us`, in any order; None without a table.

        `event_time` and `available_at` are int64, microseconds since the epoch.
        Raises Conflict if the table lacks a column, Unavailable if the store does not give it.
        """
        if event_type not in self.tables:
            return None
        with _store(f"{self.lake}/{event_type}"):
            dataset = self.tables[event_type].dataset
            if missing := [name for name in columns if name not in dataset.schema.names]:
                raise Conflict(
                    f"lake: the table of {event_type!r} has no column {missing[0]!r} yet; the lake process adds it "
                    "when it starts with this feature repository"
                )
            return dataset.to_table(columns=_projection(columns), filter=_between(since_us, until_us))


class Lake:
    """The tables that `python -m services.ingestion lake` writes."""

    def __init__(self, uri: str) -> None:
        """`uri` is a folder or an object store's; its credentials come from its own variables (AWS_*)."""
        self.uri = uri.rstrip("/")

    def snapshot(self, event_types: Iterable[str]) -> Snapshot:
        """The tables of these event types as they are now. Raises Unavailable."""
        found = {name: self._open(name) for name in event_types}
        tables = {name: table for name, table in found.items() if table is not None}
        return Snapshot(self.uri, tables, tuple(name for name in found if name not in tables))

    def snapshot_known_by(self, event_types: Sequence[str], known_by: datetime, wait_s: float, tell: Tell) -> Snapshot:
        """A snapshot with every event of these types that was available before `known_by`.

        Waits for it, `wait_s` at the most, and tells so. Raises Conflict if the lake has not come that far by then.
        """
        deadline = time.monotonic() + wait_s
        while True:
            snapshot = self.snapshot(event_types)
            reached_us = snapshot.watermark_us
            if reached_us is not None and reached_us >= to_us(known_by):
                return snapshot
            reached = _words(snapshot, reached_us)
            if time.monotonic() >= deadline:
                raise Conflict(
                    f"known_by: {rfc3339(known_by)} is ahead of the lake {self.uri}: {reached}. Ask for less, or try "
                    "again when the lake process has caught up"
                )
            tell(f"waiting for the lake to come to {rfc3339(known_by)}; {reached}")
            time.sleep(min(_ASK_AGAIN_S, max(0.0, deadline - time.monotonic())))

    def _open(self, event_type: str) -> _Table | None:
        uri = f"{self.uri}/{event_type}"
        with _store(uri):
            try:
                delta = DeltaTable(uri)
            except TableNotFoundError:
                return None
            return _Table(delta)


def _words(snapshot: Snapshot, reached_us: int | None) -> str:
    if snapshot.missing:
        return f"nothing of {', '.join(snapshot.missing)} is in it yet"
    return (
        "it does not say yet how far it has come"
        if reached_us is None
        else f"it has come to {rfc3339(from_us(reached_us))}"
    )


def _watermark_us(delta: DeltaTable) -> int | None:
    commits = (commit for commit in delta.history(_HISTORY) if commit["version"] <= delta.version())
    return next((to_us(parse_rfc3339(commit[WATERMARK])) for commit in commits if WATERMARK in commit), None)


def _projection(columns: Sequence[str]) -> dict[str, pads.Expression]:
    times = {name: pads.field(name).cast(pa.timestamp("us", "UTC")).cast(pa.int64()) for name in _TIMES}
    return {name: times.get(name, pads.field(name)) for name in columns}


def _between(since_us: int | None, until_us: int | None) -> pads.Expression | None:
    """By the partition's date first: whole files are passed over."""
    conditions = []
    if since_us is not None:
        moment = from_us(since_us)
        conditions += [pads.field(_DATE) >= moment.date(), pads.field("event_time") >= moment]
    if until_us is not None:
        moment = from_us(until_us)
        conditions += [pads.field(_DATE) <= moment.date(), pads.field("event_time") <= moment]
    if not conditions:
        return None
    whole, *rest = conditions
    for each in rest:
        whole &= each
    return whole


@contextmanager
def _store(uri: str) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OSError) as error:
        raise Unavailable(f"{uri}: {error}") from error
