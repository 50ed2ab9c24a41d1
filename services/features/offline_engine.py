"""The definitions run on a snapshot of the lake, by DuckDB: windowed features of the rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend
from numpy.typing import NDArray

from services.features.definitions import AS_OF, WindowedView
from services.features.lake import Snapshot
from services.features.offline import windowed_values

Floats = NDArray[np.float64]

_ROW = "row__"
_QUIET = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}


class OfflineEngine:
    """Computes one view at a time; several threads may."""

    def __init__(self, snapshot: Snapshot, scratch: Path, memory_mb: int) -> None:
        """What does not fit into `memory_mb` of each computation is spilled to the folder `scratch`."""
        self._snapshot = snapshot
        self._scratch = scratch
        self._memory_mb = memory_mb

    def values(self, view: WindowedView, rows: pa.Table) -> dict[str, Floats]:
        """Each aggregation by name: float64 for each of `rows` (join keys, `as_of` in microseconds), NaN for none."""
        names = [each.name for each in view.aggregations]
        span = pa.compute.min_max(rows[AS_OF]).as_py()
        if view.event_type not in self._snapshot.tables or span["min"] is None:
            return {name: np.full(rows.num_rows, np.nan) for name in names}
        with connected(self._scratch, self._memory_mb) as connection:
            asked = _numbered(connection, rows.select([*view.join_keys, AS_OF]))
            events, first_known = self._load(connection, view, span["min"], span["max"])
            found = windowed_values(view, events, first_known, _moments(asked, view.join_keys))
            aligned = asked.left_join(found, [*view.join_keys, AS_OF]).order_by(_ROW).select(*names)
            result = connection.to_pyarrow(aligned)
        return {name: result[name].to_numpy() for name in names}

    def _load(self, connection: Backend, view: WindowedView, first_us: int, last_us: int) -> tuple[ir.Table, ir.Table]:
        """The events that some window may hold, and when each entity was first known."""
        reach_us = max(each.window_us + each.slide_us for each in view.aggregations)
        columns = dict.fromkeys([*view.join_keys, "event_time", "available_at", *view.columns])
        events = self._snapshot.read(view.event_type, list(columns), since_us=first_us - reach_us, until_us=last_us)
        keys = list(view.join_keys)
        history = ibis.memtable(self._snapshot.read(view.event_type, [*keys, "available_at"], until_us=last_us))
        first_known = history.group_by(keys).agg(available_at=history.available_at.min())
        return stored(connection, "events", ibis.memtable(events)), stored(connection, "first_known", first_known)


@contextmanager
def connected(scratch: Path, memory_mb: int) -> Iterator[Backend]:
    """A DuckDB of one's own that loads nothing from elsewhere.

    It has one thread: the sum of floats depends on their order, and the same events must give the same bits.
    """
    connection = ibis.duckdb.connect(threads=1, memory_limit=f"{memory_mb}MB", temp_directory=str(scratch), **_QUIET)
    try:
        yield connection
    finally:
        connection.disconnect()


def stored(connection: Backend, name: str, table: ir.Table) -> ir.Table:
    """A table of the connection with these rows, in an order that depends on nothing but them."""
    return connection.create_table(name, table.order_by(table.columns), temp=True)


def _numbered(connection: Backend, rows: pa.Table) -> ir.Table:
    numbered = rows.append_column(_ROW, pa.array(np.arange(rows.num_rows)))
    return connection.create_table("asked", ibis.memtable(numbered).order_by(_ROW), temp=True)


def _moments(asked: ir.Table, keys: Sequence[str]) -> ir.Table:
    """Each entity and moment once; a null key, which clients send as "", is nobody's."""
    given: list[Any] = []
    for key in keys:
        given.append(asked[key].notnull())
        if asked[key].type().is_string():
            given.append(asked[key] != "")
    return asked.filter(given).select(*keys, AS_OF).distinct()
