"""The online state against the oracle: whatever the batches, redeliveries and marks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.errors import OutOfRange
from services.features.definitions import EVENT_TIME, Function
from services.features.reading import MISSING, PRESENT, STALE, Reader
from services.features.state import BEFORE_ALL, Outcome, StateLayout, decode, encode
from tests.unit.features.online import MINUTE, WHOS, Online, event, histories, view_of, views

EVERY_FUNCTION = [(each, "x", 10, 5) for each in Function]
ROWS = st.lists(st.tuples(st.sampled_from(WHOS), st.floats(-1, 30)), min_size=1, max_size=6)


def _play(online: Online, history, data, history_us: int) -> int:
    """Batches of any size, some with events delivered before, as they were or as new; returns the last mark."""
    position, known_us = 0, BEFORE_ALL
    while position < len(history):
        size = data.draw(st.integers(1, 12), label="size")
        again = data.draw(st.lists(st.sampled_from(history[: position + size]), max_size=5), label="again")
        if data.draw(st.booleans(), label="as new"):
            now_us = history[min(position + size, len(history)) - 1].available_at_us
            again = [replace(each, available_at_us=now_us) for each in again]
        # What is in the batch only as a copy comes after its first.
        batch = history[position : position + size] + again
        mark_us = known_us - history_us if known_us != BEFORE_ALL else BEFORE_ALL
        outcome = online.take(batch, mark_us)
        assert outcome.counted == len(history[position : position + size])
        assert outcome.duplicates + outcome.too_late == len(again)
        known_us = history[min(position + size, len(history)) - 1].available_at_us
        position += size
    return online.mark_us


@settings(deadline=None, max_examples=70)
@given(data=st.data(), view=views(), history=histories(), history_us=st.sampled_from([1, 2 * MINUTE, 10 * MINUTE]))
def test_values_are_right_as_of_any_moment_of_the_history(data, view, history, history_us):
    online = Online(view)
    earliest = max(_play(online, history, data, history_us), 0)
    newest = max((each.available_at_us for each in history), default=0)
    drawn = data.draw(ROWS, label="rows")
    rows = [(who, max(earliest, newest + round(minutes * MINUTE))) for who, minutes in drawn]

    online.assert_right(rows, online.read(rows))


@settings(deadline=None, max_examples=25)
@given(data=st.data(), first=views("first"), second=views("second"), history=histories())
def test_views_read_together_give_what_each_gives_alone(data, first, second, history):
    online = [Online(first), Online(second)]
    for each in online:
        each.take(history)
    rows = [[(who, round((30 + at) * MINUTE)) for who, at in data.draw(ROWS)] for _ in online]

    answers = Reader([StateLayout(each.view) for each in online]).read(
        [each.asked(asked) for each, asked in zip(online, rows, strict=True)]
    )

    for each, asked, answer in zip(online, rows, answers, strict=True):
        each.assert_right(asked, answer)


@settings(deadline=None, max_examples=25)
@given(view=views(), history=histories(), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_a_state_does_not_depend_on_how_its_events_were_batched(view, history, cuts):
    whole, pieces = Online(view), Online(view)
    whole.take(history)
    bounds = sorted({0, len(history), *(min(cut, len(history)) for cut in cuts)})
    for start, end in pairwise(bounds):
        pieces.take(history[start:end])

    assert pieces.blobs == whole.blobs


def test_every_function_survives_the_move_from_entries_into_tiles():
    online = Online(view_of(*EVERY_FUNCTION))
    events = [event(number, 20 + number, x=value) for number, value in enumerate([4.0, None, 1.0, 1.0, 7.5])]
    online.take(events)
    before = online.read([("a", 26 * MINUTE)])
    online.take([event(9, 26, who="a", x=None)], mark_us=25 * MINUTE)

    states = decode(online.updates.layout, [online.blobs[next(iter(online.blobs))]])
    after = online.read([("a", 26 * MINUTE)])

    assert (states.entries.sizes.tolist(), [each.sizes.tolist() for each in states.tiles]) == ([1], [[1]])
    np.testing.assert_allclose(after.values, before.values)
    assert after.values[0].tolist() == pytest.approx([4, 13.5, 3.375, 1.0, 7.5, 7.5, np.std([4, 1, 1, 7.5], ddof=1), 3])


@pytest.mark.parametrize("mark", [None, 21, 22])
def test_the_last_of_one_moment_is_what_became_known_last_then_what_is_greatest(mark):
    online = Online(view_of((Function.LAST, "x", 10, 1)))
    online.take([event(1, 20, known=21, x=7.0), event(2, 20, known=22, x=2.0), event(3, 20, known=22, x=1.0)])
    assert online.value("a", 21) == 7.0
    if mark is not None:
        online.take([event(9, 15, known=23, x=9.0)], mark_us=mark * MINUTE)

    assert online.value("a", 22) == 2.0


def test_a_count_falls_to_zero_without_a_new_event():
    online = Online(view_of((Function.COUNT, "x", 10, 1)))
    online.take([event(1, 20, x=1.0), event(2, 25, x=1.0)])

    assert [online.value("a", minute) for minute in (19, 25, 30, 31, 36)] == pytest.approx(
        [np.nan, 2, 2, 1, 0], nan_ok=True
    )


def test_tiles_that_no_window_reaches_any_more_are_dropped():
    online = Online(view_of((Function.COUNT, "x", 10, 1)))
    online.take([event(number, number, x=1.0) for number in range(60)])
    online.take([event(99, 60, x=1.0)], mark_us=59 * MINUTE)

    states = decode(online.updates.layout, list(online.blobs.values()))

    assert states.tiles[0].starts_us.min() == 49 * MINUTE
    assert online.value("a", 60) == 11


def test_an_event_known_before_the_mark_that_was_not_seen_is_too_late():
    online = Online(view_of((Function.COUNT, "x", 30, 1)))
    online.take([event(1, 10, x=1.0), event(2, 20, x=1.0)], mark_us=15 * MINUTE)

    assert online.take([event(3, 12, x=1.0)]) == Outcome(too_late=1)
    assert online.take([event(1, 10, x=1.0)]) == Outcome(too_late=1)
    assert online.take([event(2, 20, x=1.0), event(4, 12, known=21, x=1.0)]) == Outcome(counted=1, duplicates=1)
    assert online.value("a", 21) == 3


def test_a_moment_before_the_mark_is_refused():
    online = Online(view_of((Function.COUNT, "x", 30, 1)))
    online.take([event(1, 10, x=1.0)], mark_us=15 * MINUTE)

    assert online.value("a", 15) == 1
    with pytest.raises(OutOfRange, match="1970-01-01T00:14:00Z lies before 1970-01-01T00:15:00Z"):
        online.value("a", 14)


def test_present_missing_and_stale():
    online = Online(view_of((Function.COUNT, "x", 10, 1), (Function.MEAN, "x", 10, 1), ttl=5))
    online.take([event(1, 20, x=1.0)])
    rows = [("a", 25 * MINUTE), ("a", 26 * MINUTE), ("a", 40 * MINUTE), ("a", 19 * MINUTE), ("b", 25 * MINUTE)]

    assert online.read(rows).statuses.tolist() == [
        [PRESENT, PRESENT],
        [STALE, STALE],
        [STALE, MISSING],
        [MISSING, MISSING],
        [MISSING, MISSING],
    ]


def test_a_state_of_other_definitions_has_seen_nothing():
    before = Online(view_of((Function.SUM, "x", 10, 1)))
    before.take([event(1, 20, x=1.0)])
    after = Online(view_of((Function.SUM, "x", 20, 1)), blobs=dict(before.blobs))

    assert np.isnan(after.value("a", 20))
    after.take([event(1, 20, x=2.0)])
    assert after.value("a", 20) == 2.0


def test_aggregations_that_need_no_more_than_is_kept_change_no_state():
    before, after = (
        StateLayout(view_of((Function.STDDEV, "x", 10, 1), *more)) for more in ([], [(Function.MEAN, "x", 5, 1)])
    )

    assert before.fingerprint == after.fingerprint


def test_bytes_are_the_same_after_decode_and_encode():
    online = Online(
        view_of(*EVERY_FUNCTION, (Function.COUNT_DISTINCT, "name", 6, 1), (Function.LAST, EVENT_TIME, 6, 1))
    )
    online.take([event(n, n, who=WHOS[n % 3], x=float(n % 4), name="pq"[n % 2]) for n in range(30)], 12 * MINUTE)
    blobs = list(online.blobs.values())

    assert encode(decode(online.updates.layout, blobs)) == blobs


def test_no_event_no_entity_and_no_row_are_no_error():
    online = Online(view_of(*EVERY_FUNCTION))

    assert online.take([event(1, 1, who=None)]) == Outcome()
    assert online.read([]).values.shape == (0, 8)
    assert online.read([("a", 5)]).statuses.tolist() == [[MISSING] * 8]
