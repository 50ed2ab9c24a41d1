"""The offline engine gives what the semantics say, whatever comes late, in whichever order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.features.definitions import EVENT_TIME, Aggregation, Function, WindowedView
from services.features.offline import windowed_values
from tests.support.feature_oracle import FactualEvent, ask

SECOND_US = 1_000_000


def _aggregations() -> Iterator[Aggregation]:
    """Every function, over windows of one slide and of several, of three slides."""
    spans = [(12, 4), (20, 4), (9, 3), (6, 6)]
    columns = [("whole", "real"), ("real", EVENT_TIME), ("flag", "whole"), (EVENT_TIME, "flag")]
    wanted = [(function, column) for n, function in enumerate(Function) for column in columns[n % 4]]
    wanted += [(Function.COUNT, "text"), (Function.COUNT_DISTINCT, "text")]
    for n, (function, column) in enumerate(wanted):
        window, slide = spans[(n + n // 4) % 4]
        yield Aggregation(
            f"{function}_{column}", column, function, window * SECOND_US, slide * SECOND_US, integer=False
        )


VIEW = WindowedView("view", "thing.happened", ("one", "two"), tuple(_aggregations()), ttl_us=0)
EVENTS = pa.schema(
    {
        "event_time": pa.int64(),
        "available_at": pa.int64(),
        "one": pa.string(),
        "two": pa.int64(),
        "whole": pa.int64(),
        "real": pa.float64(),
        "flag": pa.bool_(),
        "text": pa.string(),
    }
)
TABLES = {"events": EVENTS, "moments": pa.schema({"one": pa.string(), "two": pa.int64(), "as_of": pa.int64()})}
Asked = tuple[str, int, int]
WHO, NUMBER = st.sampled_from(["a", "b"]), st.sampled_from([1, 2])
# Few distinct moments, on and off the slides' boundaries, before and after 1970; ties are frequent.
MOMENTS = st.integers(-80, 80).map(lambda halves: halves * SECOND_US // 2)
# Their sums are exact in float64, so nothing is compared that only rounding decides.
EIGHTHS = st.integers(-8000, 8000).map(lambda eighths: eighths / 8)
DELAYS = st.sampled_from([0, 0, 0, 1, 2, 5, 13, 40]).map(lambda halves: halves * SECOND_US // 2)


@st.composite
def _events(draw: st.DrawFn) -> list[FactualEvent]:
    events = []
    for number in range(draw(st.integers(0, 40))):
        at = draw(MOMENTS)
        payload = {
            "one": draw(WHO | st.none()),
            "two": draw(NUMBER | st.none()),
            "whole": draw(st.none() | st.integers(-3, 3)),
            "real": draw(st.none() | EIGHTHS),
            "flag": draw(st.none() | st.booleans()),
            "text": draw(st.none() | st.sampled_from(["x", "y", ""])),
        }
        events.append(FactualEvent(f"event-{number}", at, at + draw(DELAYS), payload))
    return events


class Engine:
    """The expression compiled once, for whatever lies in its tables: that takes longer than to run it."""

    def __init__(self) -> None:
        self._connection = ibis.duckdb.connect(threads=1)
        events, moments = (self._connection.create_table(name, schema=_ibis(schema)) for name, schema in TABLES.items())
        mine = events.filter(events.one.notnull() & events.two.notnull())
        first_known = mine.group_by(list(VIEW.join_keys)).agg(available_at=mine.available_at.min())
        self._sql = self._connection.compile(windowed_values(VIEW, events, first_known, moments))

    def values(self, events: list[FactualEvent], asked: list[Asked]) -> dict[Asked, dict[str, float | None]]:
        rows = [
            {"event_time": each.event_time_us, "available_at": each.available_at_us, **each.payload} for each in events
        ]
        self._fill("events", rows)
        self._fill("moments", [{"one": one, "two": two, "as_of": as_of} for one, two, as_of in asked])
        found = self._connection.con.sql(self._sql).to_arrow_table().to_pylist()
        assert len(found) == len(asked)
        return {(row["one"], row["two"], row["as_of"]): row for row in found}

    def _fill(self, name: str, rows: list[dict[str, Any]]) -> None:
        self._connection.truncate_table(name)
        self._connection.con.register("given", pa.Table.from_pylist(rows, TABLES[name]))
        self._connection.raw_sql(f"insert into {name} select * from given")


def _ibis(schema: pa.Schema) -> ibis.Schema:
    return ibis.Schema.from_pyarrow(schema)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@given(events=_events(), asked=st.lists(st.tuples(WHO, NUMBER, MOMENTS), min_size=1, max_size=30, unique=True))
@settings(max_examples=40, deadline=None)
def test_it_agrees_with_the_oracle(engine: Engine, events: list[FactualEvent], asked: list[Asked]):
    values = engine.values(events, asked)

    for one, two, as_of in asked:
        found = values[one, two, as_of]
        expected = {name: answer.value for name, answer in ask(VIEW, events, (one, two), as_of).items()}
        wrong = {name: (found[name], value) for name, value in expected.items() if not _equal(found[name], value)}
        assert not wrong, f"{one, two} as of {as_of}"


def _equal(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9)
