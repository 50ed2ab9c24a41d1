"""A view of every function, random histories for it, and the online engine fed with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.features.definitions import EVENT_TIME, Aggregation, Function, WindowedView
from services.features.events import Events, hash64
from services.features.merging import Ints
from services.features.reading import MISSING, PRESENT, STALE, Answers, Asked, Reader
from services.features.state import BEFORE_ALL, Outcome, StateLayout
from services.features.view_updates import ViewUpdates
from tests.support.feature_oracle import FactualEvent, ValueStatus, ask

MINUTE = 60_000_000
WHOS = ("a", "b", "c")
PROJECT = "things"
_STATUS = {ValueStatus.PRESENT: PRESENT, ValueStatus.MISSING: MISSING, ValueStatus.STALE: STALE}


def view_of(*aggregations: tuple[Function, str, int, int], name: str = "v", ttl: int = 0) -> WindowedView:
    """Function, column, window and slide in minutes; ttl in minutes; keyed by `who`."""
    made = tuple(
        Aggregation(f"f{number}", column, function, window * MINUTE, slide * MINUTE, integer=False)
        for number, (function, column, window, slide) in enumerate(aggregations)
    )
    return WindowedView(name, "thing.happened", ("who",), made, ttl * MINUTE)


def event(number: int, minute: float, *, known: float | None = None, who: str | None = "a", **payload) -> FactualEvent:
    """`minute` and `known` in minutes; columns x, y, name are null unless given."""
    at = round(minute * MINUTE)
    available_at = at if known is None else round(known * MINUTE)
    return FactualEvent(f"e{number}", at, available_at, {"who": who, "x": None, "y": None, "name": None} | payload)


@st.composite
def aggregations(draw: st.DrawFn) -> tuple[Function, str, int, int]:
    column = draw(st.sampled_from(["x", "y", "name", EVENT_TIME]))
    countable = [Function.COUNT, Function.COUNT_DISTINCT]
    function = draw(st.sampled_from(countable if column == "name" else list(Function)))
    slide = draw(st.sampled_from([1, 5]))
    return function, column, slide * draw(st.integers(1, 6)), slide


@st.composite
def views(draw: st.DrawFn, name: str = "v") -> WindowedView:
    wanted = draw(st.lists(aggregations(), min_size=1, max_size=8))
    return view_of(*wanted, name=name, ttl=draw(st.sampled_from([0, 10])))


@st.composite
def histories(draw: st.DrawFn, most: int = 40) -> list[FactualEvent]:
    """In the order in which the events became available, which is not that in which they happened."""
    events, now = [], 0.0
    for number in range(draw(st.integers(0, most))):
        now += draw(st.sampled_from([0, 0.5, 1, 3]))
        happened = max(0.0, now - draw(st.sampled_from([0, 0, 1, 7, 23])))
        payload = {
            "x": draw(st.sampled_from([None, 1.0, 2.5, -3.0])),
            "y": draw(st.sampled_from([None, 0, True, 7])),
            "name": draw(st.sampled_from([None, "p", "q"])),
        }
        events.append(event(number, happened, known=now, who=draw(st.sampled_from(WHOS)), **payload))
    return events


@st.composite
def deliveries(draw: st.DrawFn, most: int = 40) -> tuple[list[FactualEvent], list[FactualEvent]]:
    """A history, and how it is delivered: upstream repeats some events, and each copy is available when it comes."""
    history = draw(histories(most))
    delivered = []
    for number, each in enumerate(history, start=1):
        delivered.append(each)
        again = draw(st.lists(st.sampled_from(history[:number]), max_size=2))
        delivered += [replace(copied, available_at_us=each.available_at_us) for copied in again]
    return history, delivered


def columns_of(events: Iterable[FactualEvent]) -> Events:
    """As they come out of a batch."""
    columns = Events()
    for each in events:
        columns.times_us.append(each.event_time_us)
        columns.available_us.append(each.available_at_us)
        columns.ids.append(hash64(each.event_id))
        columns.payloads.append(dict(each.payload))
    return columns


@dataclass
class Online:
    """States of one view in memory, and the events that they hold."""

    view: WindowedView
    updates: ViewUpdates = field(init=False)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    events: dict[str, FactualEvent] = field(default_factory=dict)
    mark_us: int = BEFORE_ALL

    def __post_init__(self) -> None:
        self.updates = ViewUpdates(PROJECT, self.view)

    def take(self, events: Sequence[FactualEvent], mark_us: int = BEFORE_ALL) -> Outcome:
        """A batch."""
        touched = self.updates.touched(columns_of(events))
        before = [self.blobs.get(key) for key in touched.keys]
        fields, outcome = self.updates.updated(touched, before, mark_us, self._seen)
        for key, items in zip(touched.keys, fields, strict=True):
            self.blobs[key] = dict(zip(items[::2], items[1::2], strict=True))[self.updates.state_field]
        for each in events:
            self.events.setdefault(each.event_id, each)
        self.mark_us = max(self.mark_us, mark_us)
        return outcome

    def _seen(self, times_us: Ints, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        known = [hash64(event_id) for event_id in self.events]
        return np.isin(ids, np.array(known, np.uint64))

    def asked(self, rows: Sequence[tuple[str, int]]) -> Asked:
        """Rows of (who, as of in microseconds)."""
        keys = [self.updates.touched(columns_of([event(0, 0, who=who)])).keys[0] for who in WHOS]
        blobs = [self.blobs.get(key) for key in keys]
        who, at = [WHOS.index(who) for who, _ in rows], [at for _, at in rows]
        return Asked(blobs, np.array(who, np.int64), np.array(at, np.int64))

    def read(self, rows: Sequence[tuple[str, int]]) -> Answers:
        (answers,) = Reader([StateLayout(self.view)]).read([self.asked(rows)])
        return answers

    def value(self, who: str, minute: float) -> float:
        """Of the first aggregation."""
        return float(self.read([(who, round(minute * MINUTE))]).values[0, 0])

    def assert_right(self, rows: Sequence[tuple[str, int]], answers: Answers) -> None:
        """Values and statuses are the oracle's."""
        for (who, at), values, statuses in zip(rows, answers.values, answers.statuses, strict=True):
            expected = ask(self.view, self.events.values(), (who,), at)
            for aggregation, value, status in zip(self.view.aggregations, values, statuses, strict=True):
                want = expected[aggregation.name]
                wanted = math.nan if want.value is None else want.value
                np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-9, err_msg=f"{aggregation} {who} {at}")
                assert status == _STATUS[want.status], (aggregation, who, at)
