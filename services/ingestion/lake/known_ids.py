"""Which event ids the lake has, by type and event date, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from services.ingestion.lake.rows import Origin


@dataclass(slots=True)
class DayIds:
    """One event date of one type: where each id's row comes from, and the origins of its duplicates."""

    rows: dict[str, Origin] = field(default_factory=dict)
    duplicates: set[Origin] = field(default_factory=set)


class KnownIds:
    """The days used last stay in memory; `load(type, day)` reads another one from the tables when it is asked for.

    `day` is in days since the epoch.
    """

    def __init__(self, load: Callable[[str, int], DayIds], max_ids: int) -> None:
        self._load = load
        self._max_ids = max_ids
        self._days: OrderedDict[tuple[str, int], DayIds] = OrderedDict()

    def of(self, event_type: str, day: int) -> DayIds:
        """The ids of that day. What the caller adds must be in the tables already."""
        key = (event_type, day)
        if key not in self._days:
            self._days[key] = self._load(event_type, day)
        self._days.move_to_end(key)
        return self._days[key]

    def shrink(self) -> None:
        """Forgets the days that were not used for the longest until no more than `max_ids` are held."""
        held = sum(len(ids.rows) + len(ids.duplicates) for ids in self._days.values())
        while held > self._max_ids and self._days:
            _, forgotten = self._days.popitem(last=False)
            held -= len(forgotten.rows) + len(forgotten.duplicates)
