"""The semantics of a windowed feature value, spelled out for one entity and one moment at a time.

Slow and without any cleverness: what both engines must agree with.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from services.features.definitions import EVENT_TIME, Aggregation, Function, WindowedView

Key = Sequence[str | int | None]


@dataclass(frozen=True, slots=True)
class FactualEvent:
    """An event of one type. Times in microseconds since the epoch."""

    event_id: str
    event_time_us: int
    available_at_us: int
    payload: Mapping[str, Any]


class ValueStatus(StrEnum):
    PRESENT = "present"
    MISSING = "missing"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Answer:
    """A feature's value in float64 (None: it has none) and its status."""

    value: float | None
    status: ValueStatus


def ask(view: WindowedView, events: Iterable[FactualEvent], key: Key, as_of_us: int) -> dict[str, Answer]:
    """Every aggregation of `view` by name. `events` are all of the view's event type, of any entity, in any order."""
    known = [each for each in _of_entity(view, events, key) if each.available_at_us <= as_of_us]
    newest_us = max((each.event_time_us for each in known if each.event_time_us <= as_of_us), default=as_of_us)
    stale = view.ttl_us > 0 and as_of_us - newest_us > view.ttl_us
    return {each.name: _answer(each, known, as_of_us, stale) for each in view.aggregations}


def window_start_us(aggregation: Aggregation, as_of_us: int) -> int:
    """The first moment that the window covers."""
    reaches_to = as_of_us - aggregation.window_us
    return reaches_to - reaches_to % aggregation.slide_us


def _of_entity(view: WindowedView, events: Iterable[FactualEvent], key: Key) -> list[FactualEvent]:
    """Each event id once; a key that is null, which clients send as "", is nobody's."""
    if any(part in (None, "") for part in key):
        return []
    mine = {
        each.event_id: each
        for each in events
        if all(each.payload[name] == part for name, part in zip(view.join_keys, key, strict=True))
    }
    return list(mine.values())


def _answer(aggregation: Aggregation, known: Sequence[FactualEvent], as_of_us: int, stale: bool) -> Answer:
    value = _value(aggregation, known, as_of_us) if known else None
    if value is None:
        return Answer(None, ValueStatus.MISSING)
    return Answer(value, ValueStatus.STALE if stale else ValueStatus.PRESENT)


def _value(aggregation: Aggregation, known: Sequence[FactualEvent], as_of_us: int) -> float | None:
    start_us = window_start_us(aggregation, as_of_us)
    inside = [each for each in known if start_us <= each.event_time_us <= as_of_us]
    filled = [each for each in inside if _column(aggregation, each) is not None]
    values = [_column(aggregation, each) for each in filled]
    if aggregation.function is Function.LAST:
        ordered = sorted((e.event_time_us, e.available_at_us, _column(aggregation, e)) for e in filled)
        return float(ordered[-1][2]) if ordered else None
    return _FUNCTIONS[aggregation.function](values)


def _column(aggregation: Aggregation, event: FactualEvent) -> Any:
    return event.event_time_us / 1e6 if aggregation.column == EVENT_TIME else event.payload[aggregation.column]


_FUNCTIONS: Mapping[Function, Callable[[list[Any]], float | None]] = {
    Function.COUNT: lambda values: float(len(values)),
    Function.COUNT_DISTINCT: lambda values: float(len(set(values))),
    Function.SUM: lambda values: float(sum(values)) if values else None,
    Function.MEAN: lambda values: statistics.fmean(values) if values else None,
    Function.MIN: lambda values: float(min(values)) if values else None,
    Function.MAX: lambda values: float(max(values)) if values else None,
    Function.STDDEV: lambda values: statistics.stdev(values) if len(values) > 1 else None,
}
