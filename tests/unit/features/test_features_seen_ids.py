"""Ids by type and date: found while a window reaches back, and only of the date that they were added under."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.features.definitions import Function
from services.features.events import Events
from services.features.seen_ids import SeenIds
from services.features.state import BEFORE_ALL
from tests.unit.features.fakes import FakeStore
from tests.unit.features.online import MINUTE, view_of

TYPE = "thing.happened"
DAY = 24 * 60 * MINUTE
VIEW = view_of((Function.COUNT, "x", 30, 5))
REACH = 35 * MINUTE
EVENTS = st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 9) | st.just(2**64 - 1)), max_size=30)


def _events(found: list[tuple[int, int]]) -> Events:
    """Of (day, id)."""
    times = [day * DAY + MINUTE for day, _ in found]
    return Events(times, times, [number for _, number in found], [{} for _ in found])


def _seen(seen: SeenIds, asked: list[tuple[int, int]]) -> list[bool]:
    events = _events(asked)
    return seen.of(TYPE)(np.array(events.times_us, np.int64), np.array(events.ids, np.uint64)).tolist()


@settings(deadline=None)
@given(batches=st.lists(EVENTS, max_size=3), asked=EVENTS)
def test_an_id_is_seen_if_it_was_added_with_its_date(batches, asked):
    store = FakeStore()
    seen = SeenIds(store, [VIEW])
    for each in batches:
        seen.add({TYPE: _events(each)}, BEFORE_ALL)

    added = {event for each in batches for event in each}
    for process in (seen, SeenIds(store, [VIEW])):
        assert _seen(process, asked) == [event in added for event in asked]


def test_what_is_added_after_it_was_asked_is_seen():
    seen = SeenIds(FakeStore(), [VIEW])
    seen.add({TYPE: _events([(0, 1)])}, BEFORE_ALL)
    assert _seen(seen, [(0, 1), (0, 2)]) == [True, False]

    seen.add({TYPE: _events([(0, 2)])}, BEFORE_ALL)
    assert _seen(seen, [(0, 1), (0, 2)]) == [True, True]


def test_a_day_is_forgotten_when_no_window_as_of_the_mark_reaches_it_and_not_kept_again():
    store = FakeStore()
    seen = SeenIds(store, [VIEW])
    seen.add({TYPE: _events([(0, 1), (1, 2)])}, BEFORE_ALL)

    seen.forget(DAY + REACH - 1)
    assert _seen(seen, [(0, 1), (1, 2)]) == [True, True]

    seen.forget(DAY + REACH)
    assert _seen(seen, [(0, 1), (1, 2)]) == [False, True]
    seen.add({TYPE: _events([(0, 1), (1, 3)])}, DAY + REACH)
    assert {name: len(ids) for name, ids in store.packed_ids.items()} == {"thing.happened:1": 16}


def test_a_type_without_views_is_not_kept():
    store = FakeStore()
    SeenIds(store, [VIEW]).add({TYPE: _events([(0, 1)])}, BEFORE_ALL)

    without = SeenIds(store, [])
    without.add({TYPE: _events([(0, 2)])}, BEFORE_ALL)
    without.forget(BEFORE_ALL)

    assert store.packed_ids == {}
