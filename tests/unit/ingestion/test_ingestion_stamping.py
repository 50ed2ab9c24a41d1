from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.ingestion.stamping import Stamper

MOMENTS = st.integers(min_value=0, max_value=50)


def test_an_event_is_available_when_upstream_knew_it():
    stamper = Stamper(trust_recordedtime=True)

    assert stamper.stamp(5, 10, 99) == 10
    assert stamper.watermark_us == 10


def test_a_late_event_was_not_available_before_the_watermark():
    stamper = Stamper(trust_recordedtime=True, watermark_us=100)

    assert stamper.stamp(5, 10, 999) == 100
    assert stamper.watermark_us == 100


def test_our_own_clock_asks_nobody():
    stamper = Stamper(trust_recordedtime=False)

    assert stamper.stamp(5, 10, 99) == 99
    stamper.heartbeat(5000, 120)
    assert stamper.watermark_us == 120


def test_a_sender_whose_clock_is_ahead_does_not_push_the_watermark():
    stamper = Stamper(trust_recordedtime=False)

    assert stamper.stamp(150, None, 100) == 150
    assert stamper.watermark_us == 100


@given(trust=st.booleans(), events=st.lists(st.tuples(MOMENTS, MOMENTS, MOMENTS)))
def test_no_event_is_available_before_its_time_or_the_watermark_before_it(
    trust: bool, events: list[tuple[int, int, int]]
):
    stamper = Stamper(trust_recordedtime=trust)
    for time_us, known_after_us, now_us in events:
        before = stamper.watermark_us or 0
        stamp = stamper.stamp(time_us, time_us + known_after_us, now_us)
        assert stamp >= max(time_us, before)
        assert (stamper.watermark_us or 0) >= before


@given(events=st.lists(st.tuples(MOMENTS, MOMENTS)), cut=st.integers(min_value=0, max_value=20))
def test_published_again_from_a_committed_watermark_the_stamps_are_the_same(events: list[tuple[int, int]], cut: int):
    once = Stamper(trust_recordedtime=True)
    stamps, committed = [], None
    for number, (time_us, after_us) in enumerate(events):
        if number == cut:
            committed = once.watermark_us
        stamps.append(once.stamp(time_us, time_us + after_us, 1))

    again = Stamper(trust_recordedtime=True, watermark_us=committed)

    assert [again.stamp(time_us, time_us + after_us, 2) for time_us, after_us in events[cut:]] == stamps[cut:]
