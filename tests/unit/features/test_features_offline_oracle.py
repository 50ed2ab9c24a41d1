"""The oracle against numbers worked out by hand: a clock in minutes, windows of 10 minutes in steps of 5."""

from __future__ import annotations

from typing import Any

import pytest

from services.features.definitions import EVENT_TIME, Aggregation, Function, WindowedView
from tests.support.feature_oracle import Answer, FactualEvent, ValueStatus, ask

MINUTE_US = 60_000_000


def _view(function: Function, column: str = "x", ttl: int = 0) -> WindowedView:
    aggregation = Aggregation("f", column, function, 10 * MINUTE_US, 5 * MINUTE_US, integer=False)
    return WindowedView("v", "thing.happened", ("who",), (aggregation,), ttl * MINUTE_US)


def _event(minute: float, x: Any, known: float | None = None, who: str | None = "a", name: str = "") -> FactualEvent:
    at = round(minute * MINUTE_US)
    available_at = at if known is None else round(known * MINUTE_US)
    return FactualEvent(name or f"{who}/{minute}/{x}", at, available_at, {"who": who, "x": x})


def _ask(view: WindowedView, events: list[FactualEvent], minute: float, who: str | None = "a") -> Answer:
    return ask(view, events, (who,), round(minute * MINUTE_US))["f"]


EVENTS = [_event(20, 1.0), _event(22, 5.0), _event(24, None), _event(25, 3.0, known=29), _event(26, 100.0, who="b")]


@pytest.mark.parametrize(
    ("function", "at_28", "at_30"),
    [
        (Function.COUNT, 2.0, 3.0),
        (Function.SUM, 6.0, 9.0),
        (Function.MEAN, 3.0, 3.0),
        (Function.MIN, 1.0, 1.0),
        (Function.MAX, 5.0, 5.0),
        (Function.LAST, 5.0, 3.0),
        (Function.STDDEV, 8**0.5, 2.0),
        (Function.COUNT_DISTINCT, 2.0, 3.0),
    ],
)
def test_each_function_sees_what_was_known_by_then(function: Function, at_28: float, at_30: float):
    assert _ask(_view(function), EVENTS, 28).value == pytest.approx(at_28)
    assert _ask(_view(function), EVENTS, 30).value == pytest.approx(at_30)


def test_the_windows_start_moves_in_steps_of_the_slide():
    counts = {minute: _ask(_view(Function.COUNT), [_event(20, 1.0)], minute).value for minute in (20, 30, 34.9, 35)}

    assert counts == {20: 1.0, 30: 1.0, 34.9: 1.0, 35: 0.0}


def test_an_empty_window_counts_zero_only_for_an_entity_that_was_seen():
    assert _ask(_view(Function.COUNT), EVENTS, 90) == Answer(0.0, ValueStatus.PRESENT)
    assert _ask(_view(Function.COUNT), EVENTS, 19) == Answer(None, ValueStatus.MISSING)
    assert _ask(_view(Function.SUM), EVENTS, 90) == Answer(None, ValueStatus.MISSING)
    assert _ask(_view(Function.STDDEV), EVENTS, 20) == Answer(None, ValueStatus.MISSING)


def test_a_value_is_stale_when_the_newest_event_is_older_than_the_ttl():
    assert _ask(_view(Function.COUNT, ttl=5), EVENTS, 30).status is ValueStatus.PRESENT
    assert _ask(_view(Function.COUNT, ttl=5), EVENTS, 30.1).status is ValueStatus.STALE
    assert _ask(_view(Function.SUM, ttl=5), EVENTS, 90).status is ValueStatus.MISSING


def test_the_last_of_one_moment_is_what_became_known_last_then_what_is_greatest():
    tied = [_event(20, 7.0, known=21), _event(20, 1.0, known=22), _event(20, 2.0, known=22)]

    assert _ask(_view(Function.LAST), tied, 21).value == 7.0
    assert _ask(_view(Function.LAST), tied, 22).value == 2.0


def test_the_event_time_is_a_column_in_seconds():
    assert _ask(_view(Function.LAST, EVENT_TIME), EVENTS, 28).value == 24 * 60


def test_an_event_id_counts_once_and_a_null_key_is_nobodys():
    events = [_event(20, 1.0, name="same"), _event(20, 1.0, name="same"), _event(20, 1.0, who=None)]

    assert _ask(_view(Function.COUNT), events, 20).value == 1.0
    assert _ask(_view(Function.COUNT), events, 20, who=None) == Answer(None, ValueStatus.MISSING)
    assert _ask(_view(Function.COUNT), events, 20, who="") == Answer(None, ValueStatus.MISSING)
