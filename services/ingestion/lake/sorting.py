"""Telling apart what is new, what upstream sent twice, and what was only delivered again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from services.ingestion.lake.known_ids import DayIds
from services.ingestion.lake.rows import Duplicate, Row


class Waiting(NamedTuple):
    """A row that waits for the next commit; `covered`: the table's transaction says that it was taken in already."""

    row: Row
    covered: bool


@dataclass(slots=True)
class Sorted:
    """`rows` and `duplicates` are to be stored; `redeliveries` are stored already."""

    rows: list[Row] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    redeliveries: int = 0


def sort_out(event_type: str, waiting: Iterable[Waiting], ids_of: Callable[[int], DayIds]) -> Sorted:
    """What becomes of each row, in order of arrival. Changes nothing in `ids_of(day)`.

    The first record with an id is its row. A later one with other origin coordinates is upstream's duplicate, stored
    once for its coordinates; one with the same coordinates is a redelivery. A covered record whose id has no row was
    deleted since by somebody and stays deleted.
    """
    result = Sorted()
    new: dict[int, DayIds] = {}
    for row, covered in waiting:
        known, fresh = ids_of(row.day), new.setdefault(row.day, DayIds())
        origin = known.rows.get(row.event_id) or fresh.rows.get(row.event_id)
        if origin is None and not covered:
            fresh.rows[row.event_id] = row.origin
            result.rows.append(row)
        elif origin in (None, row.origin) or row.origin in known.duplicates or row.origin in fresh.duplicates:
            result.redeliveries += 1
        else:
            fresh.duplicates.add(row.origin)
            result.duplicates.append(Duplicate(row.event_id, event_type, row.origin, row.day))
    return result
