"""The offline engine gives what the semantics say, whatever comes late, in whichever order."""

from __future__ import annotations

import math
from typing import Any

import ibis
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.features.definitions import EVENT_TIME, Aggregation, Function, WindowedView
from services.features.offline import windowed_values
from tests.support.feature_oracle import FactualEvent, ask

SECOND_US = 1_000_000
NUMBERS = ("whole", "real", "flag")


def _aggregations() -> tuple[Aggregation, ...]:
    """All functions, over windows of one slide and of several, of three slides."""
    spans = [(12, 4), (20, 4), (9, 3), (6, 6)]
    numeric = [(function, column) for function in Function for column in (*NUMBERS, EVENT_TIME)]
    text = [(Function.COUNT, "text"), (Function.COUNT_DISTINCT, "text")]
    return tuple(
        Aggregation(
            f"{function}_{column}_{window}_{slide}", column, function, window * SECOND_US, slide * SECOND_US, False
        )
        for n, (function, column) in enumerate([*numeric, *text])
        for window, slide in (spans[n % 4], spans[(n + 1) % 4])
    )


VIEW = WindowedView("view", "thing.happened", ("one", "two"), _aggregations(), ttl_us=0)
KEYS = st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None]))
# Few distinct moments, on and off the slides' boundaries, before and after 1970; ties are frequent.
MOMENTS = st.integers(-80, 80).map(lambda halves: halves * SECOND_US // 2)
DELAYS = st.sampled_from([0, 0, 0, 1, 2, 5, 13, 40]).map(lambda halves: halves * SECOND_US // 2)


@st.composite
def _events(draw: st.DrawFn) -> list[FactualEvent]:
    events = []
    for number in range(draw(st.integers(0, 40))):
        one, two = draw(KEYS)
        at = draw(MOMENTS)
        payload = {
            "one": one,
            "two": two,
            "whole": draw(st.none() | st.integers(-3, 3)),
            "real": draw(st.none() | st.floats(-1e3, 1e3, width=32)),
            "flag": draw(st.none() | st.booleans()),
            "text": draw(st.none() | st.sampled_from(["x", "y", ""])),
        }
        events.append(FactualEvent(f"event-{number}", at, at + draw(DELAYS), payload))
    return events


@given(events=_events(), asked=st.sets(st.tuples(KEYS, MOMENTS), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_it_agrees_with_the_oracle(events: list[FactualEvent], asked: set[tuple[Any, int]]):
    asked = {(key, moment) for key, moment in asked if None not in key}

    values = _offline(events, asked)

    for key, moment in asked:
        expected = {name: answer.value for name, answer in ask(VIEW, events, key, moment).items()}
        found = values[*key, moment]
        wrong = {name: (found[name], value) for name, value in expected.items() if not _equal(found[name], value)}
        assert not wrong, f"{key} as of {moment}"
    assert len(values) == len(asked)


def _equal(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9)


def _offline(events: list[FactualEvent], asked: set[tuple[Any, int]]) -> dict[tuple[Any, ...], dict[str, float | None]]:
    connection = ibis.duckdb.connect(threads=1)
    table = ibis.memtable(_arrow(events))
    mine = table.filter(table.one.notnull() & table.two.notnull())
    first_known = mine.group_by(list(VIEW.join_keys)).agg(available_at=mine.available_at.min())
    rows = [(*key, moment) for key, moment in asked]
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    types = (pa.string(), pa.int64(), pa.int64())
    moments = pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)], names=["one", "two", "as_of"]
    )
    found = windowed_values(VIEW, table, first_known, ibis.memtable(moments))
    return {(row["one"], row["two"], row["as_of"]): row for row in connection.to_pyarrow(found).to_pylist()}


def _arrow(events: list[FactualEvent]) -> pa.Table:
    kinds = {
        "one": pa.string(),
        "two": pa.int64(),
        "whole": pa.int64(),
        "real": pa.float64(),
        "flag": pa.bool_(),
        "text": pa.string(),
    }
    columns = {name: pa.array([event.payload[name] for event in events], kind) for name, kind in kinds.items()}
    for name in ("event_time", "available_at"):
        columns[name] = pa.array([getattr(event, f"{name}_us") for event in events], pa.int64())
    return pa.table(columns)
