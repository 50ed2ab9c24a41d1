"""What lies in the lake, read without any code of the services that write or use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from services.problem import Label

_DUPLICATES = "_duplicates"


@dataclass(frozen=True, slots=True)
class TableCount:
    """Rows of an event type's table, and how many different event ids they have."""

    rows: int
    distinct: int


def count_events(lake: Path, event_types: Iterable[str]) -> dict[str, TableCount]:
    """By event type; a type that never came has no table and counts 0."""
    counts = {}
    for event_type in event_types:
        ids = _read(lake / event_type, ["event_id"])
        counts[event_type] = TableCount(0, 0) if ids is None else _count(ids["event_id"])
    return counts


def count_duplicates(lake: Path) -> int:
    """Upstream records that brought an event again."""
    table = _read(lake / _DUPLICATES, ["event_id"])
    return 0 if table is None else table.num_rows


def read_outcomes(lake: Path, label: Label) -> pa.Table:
    """Entity id, label (null: void) and available_at_us of each entity's first outcome."""
    parts = [
        part for event_type, column in label.outcomes.items() if (part := _outcomes(lake, label, event_type, column))
    ]
    if not parts:
        return _OUTCOMES.empty_table()
    table = pa.concat_tables(parts)
    ordered = table.sort_by([("available_at_us", "ascending"), ("event_id", "ascending")])
    first = (
        ordered.append_column("row", pa.array(range(ordered.num_rows)))
        .group_by("entity_id")
        .aggregate([("row", "min")])
    )
    return ordered.take(first["row_min"].sort()).select(_OUTCOMES.names)


_OUTCOMES = pa.schema([("entity_id", pa.string()), ("label", pa.float64()), ("available_at_us", pa.int64())])


def _outcomes(lake: Path, label: Label, event_type: str, column: str | None) -> pa.Table | None:
    columns = ["event_id", label.entity_id, "available_at", *([column] if column else [])]
    table = _read(lake / event_type, columns)
    if table is None:
        return None
    values = pc.cast(table[column], pa.float64()) if column else pa.nulls(table.num_rows, pa.float64())
    return pa.table(
        {
            "event_id": table["event_id"],
            "entity_id": table[label.entity_id],
            "label": values,
            "available_at_us": pc.cast(table["available_at"], pa.int64()),
        }
    )


def _count(ids: pa.ChunkedArray) -> TableCount:
    return TableCount(len(ids), pc.count_distinct(ids).as_py())


def _read(path: Path, columns: list[str]) -> pa.Table | None:
    if not DeltaTable.is_deltatable(str(path)):
        return None
    return DeltaTable(str(path)).to_pyarrow_table(columns=columns)
