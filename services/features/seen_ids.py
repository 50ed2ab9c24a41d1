"""Ids of what was worked in, by event type and event date: they tell a repeat that the entries cannot tell any more.

A state tells a repeat by the ids among its entries. Upstream may repeat an event long after it went into tiles, and
ingestion then stamps the repeat with the watermark: by its availability it is new. What is in tiles was available by
the state's mark, so it happened by then: only an event with `event_time ≤ mark` that is not among the entries is looked
up here, among the ids of its date, as the lake does it. Few events are that late.

The ids of a batch are written after all its states and before its progress. Therefore
- an id that is found has been worked into all states of its event: nothing is lost by passing its copy over;
- a batch that is read again after a crash is decided by the entries, which are asked first: its events were available
  after the mark, so the states that were written hold them, and the others take them in. Its own ids may be here only
  if every state was written, so they hide nothing from a state that was not;
- what a finished batch brought is here before anything later is read.

When the stream starts over they are forgotten with the progress, and come back with the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.features.definitions import WindowedView
from services.features.events import Events
from services.features.merging import Ints
from services.features.state import Seen

_DAY_US = 86_400_000_000

Ids = NDArray[np.uint64]


class IdStore(Protocol):
    """Bytes that can be added to, by name."""

    def id_names(self) -> list[str]: ...
    def ids(self, name: str) -> bytes: ...
    def add_ids(self, ids: Mapping[str, bytes]) -> None: ...
    def forget_ids(self, names: Sequence[str]) -> None: ...


class SeenIds:
    """Eight bytes for each record, from its date until no window reaches back to it. One process writes."""

    def __init__(self, store: IdStore, views: Iterable[WindowedView]) -> None:
        self._store = store
        self._reach_us: dict[str, int] = {}
        for view in views:
            reach_us = max(each.window_us + each.slide_us for each in view.aggregations)
            self._reach_us[view.event_type] = max(reach_us, self._reach_us.get(view.event_type, 0))
        self._dates = {_date(name) for name in store.id_names()}
        self._read: dict[tuple[str, int], Ids] = {}

    def of(self, event_type: str) -> Seen:
        """Asks the store only when it is asked. Raises Unavailable."""

        def seen(times_us: Ints, ids: Ids) -> NDArray[np.bool_]:
            days = times_us // _DAY_US
            found = np.zeros(len(ids), np.bool_)
            for day in np.unique(days).tolist():
                of_day = days == day
                found[of_day] = _among(ids[of_day], self._of_date(event_type, day))
            return found

        return seen

    def add(self, events: Mapping[str, Events], mark_us: int) -> None:
        """Once all states of these events, by type, are written. Raises Unavailable."""
        packed: dict[tuple[str, int], bytes] = {}
        for event_type, each in events.items():
            days, ids = np.array(each.times_us, np.int64) // _DAY_US, np.array(each.ids, np.uint64)
            for day in np.unique(days).tolist():
                if self._is_reached((event_type, day), mark_us):
                    packed[event_type, day] = np.unique(ids[days == day]).astype("<u8").tobytes()
        self._read.clear()
        if packed:
            self._store.add_ids({_name(date): ids for date, ids in packed.items()})
            self._dates |= packed.keys()

    def forget(self, mark_us: int) -> None:
        """Those that no window as of the mark or later reaches. Raises Unavailable."""
        if gone := {date for date in self._dates if not self._is_reached(date, mark_us)}:
            self._store.forget_ids([_name(date) for date in sorted(gone)])
            self._dates -= gone

    def _of_date(self, event_type: str, day: int) -> Ids:
        date = event_type, day
        if date not in self._dates:
            return np.empty(0, np.uint64)
        if date not in self._read:
            self._read[date] = np.frombuffer(self._store.ids(_name(date)), "<u8")
        return self._read[date]

    def _is_reached(self, date: tuple[str, int], mark_us: int) -> bool:
        event_type, day = date
        # A type that has no views any more reaches nowhere.
        return event_type in self._reach_us and (day + 1) * _DAY_US > mark_us - self._reach_us[event_type]


def _among(few: Ids, many: Ids) -> NDArray[np.bool_]:
    """Which of a few are among many; like `np.isin`, which would sort the many."""
    wanted, places = np.unique(few, return_inverse=True)
    nearest = wanted.searchsorted(many).clip(max=len(wanted) - 1)
    found = np.zeros(len(wanted), np.bool_)
    found[nearest[wanted[nearest] == many]] = True
    return found[places]


def _name(date: tuple[str, int]) -> str:
    """`<event type>:<days since the Unix epoch>`."""
    event_type, day = date
    return f"{event_type}:{day}"


def _date(name: str) -> tuple[str, int]:
    event_type, _, day = name.rpartition(":")
    return event_type, int(day)
