"""What happens to batches: states, progress and watermark through crashes, redeliveries and lost data."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.structs import TopicPartition

from services.chassis.errors import Unavailable
from services.chassis.lifecycle import Lifecycle
from services.features.consumer import STORE, Batches, LostGround, resumed
from services.features.definitions import Function, WindowedView
from services.features.events import hash64
from services.features.seen_ids import SeenIds
from services.features.view_updates import ViewUpdates
from tests.support.feature_oracle import FactualEvent
from tests.unit.features.fakes import FakeConsumer, FakeLog, FakeStore
from tests.unit.features.online import MINUTE, PROJECT, WHOS, Online, deliveries, event, view_of

TOPIC = "events.thing.happened.v1"
PARTITIONS = [TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)]
HISTORY = 5 * MINUTE
COUNTS = view_of((Function.COUNT, "x", 30, 1), (Function.SUM, "x", 30, 5), name="counts", ttl=10)
LASTS = view_of((Function.LAST, "y", 20, 5), (Function.STDDEV, "x", 20, 5), name="lasts")


@dataclass
class Stream:
    """A log, a store, and processes between them, one after the other."""

    views: tuple[WindowedView, ...] = (COUNTS, LASTS)
    log: FakeLog = field(default_factory=lambda: FakeLog(PARTITIONS))
    store: FakeStore = field(default_factory=FakeStore)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    def start(self) -> tuple[FakeConsumer, Batches]:
        consumer = FakeConsumer(self.log)
        batches = Batches(
            consumer=consumer,
            store=self.store,
            updates=[ViewUpdates(PROJECT, view) for view in self.views],
            seen=SeenIds(self.store, self.views),
            types={TOPIC: "thing.happened"},
            history_us=HISTORY,
            progress=resumed(self.store, self.views),
            lifecycle=self.lifecycle,
        )
        batches.begin()
        return consumer, batches

    def run(self, most: int = 3) -> None:
        """To the end of the log."""
        consumer, batches = self.start()
        while batch := consumer.poll(most):
            batches.act(batch)
            batches.commit()

    def online(self, view: WindowedView, events: list[FactualEvent]) -> Online:
        """To read a view's states, and the events that they should hold."""
        field_name = ViewUpdates(PROJECT, view).state_field
        blobs = {key: fields[field_name] for key, fields in self.store.hashes.items() if field_name in fields}
        return Online(view, blobs=blobs, events={each.event_id: each for each in events})

    def assert_right(self, events: list[FactualEvent]) -> None:
        for view in self.views:
            online = self.online(view, events)
            newest = max((each.available_at_us for each in events), default=0)
            earliest = max((self.store.watermark or 0) - HISTORY, 0)
            moments = [earliest, *(newest + minute * MINUTE for minute in (0, 3, 17))]
            rows = [(who, moment) for who in WHOS for moment in moments]
            online.assert_right(rows, online.read(rows))


def _fill(log: FakeLog, delivered: list[FactualEvent]) -> None:
    """Events on both partitions, copies on that of their first, with a watermark after every third."""
    for number, each in enumerate(delivered):
        log.event(PARTITIONS[hash64(each.event_id) % 2], each)
        if number % 3 == 2:
            log.watermark(each.available_at_us)


@settings(deadline=None, max_examples=60)
@given(sent=deliveries(), most=st.integers(1, 9))
def test_an_event_that_upstream_repeats_whenever_it_likes_counts_once(sent, most):
    history, delivered = sent
    stream = Stream()
    _fill(stream.log, delivered)
    stream.run(most)

    stream.assert_right(history)


@settings(deadline=None, max_examples=40)
@given(
    sent=deliveries(30),
    crash_after=st.lists(st.integers(0, 25), max_size=5),
    most=st.integers(1, 9),
)
def test_a_process_that_ends_anywhere_loses_nothing_and_counts_nothing_twice(sent, crash_after, most):
    history, delivered = sent
    stream = Stream()
    _fill(stream.log, delivered)
    watermarks = [0]
    for works_for in crash_after:
        stream.store.works_for = works_for
        with suppress(Unavailable):
            stream.run(most)
        watermarks.append(stream.store.watermark or 0)
    stream.store.works_for = 2**31
    stream.run(most)

    stream.assert_right(history)
    assert watermarks == sorted(watermarks)


@settings(deadline=None, max_examples=15)
@given(sent=deliveries(30), lost_after=st.integers(0, 6))
def test_a_store_that_lost_everything_is_filled_again_from_the_log(sent, lost_after):
    history, delivered = sent
    stream = Stream()
    _fill(stream.log, delivered)
    consumer, batches = stream.start()
    for _ in range(lost_after):
        if batch := consumer.poll(3):
            batches.act(batch)
            batches.commit()
    stream.store.hashes.clear()
    stream.store.start_over()
    stream.run()

    stream.assert_right(history)


@settings(deadline=None, max_examples=15)
@given(sent=deliveries(30), kept=st.integers(0, 6))
def test_a_store_that_went_back_goes_on_from_where_it_is(sent, kept):
    history, delivered = sent
    stream = Stream()
    _fill(stream.log, delivered)
    consumer, batches = stream.start()
    for _ in range(kept):
        if batch := consumer.poll(3):
            batches.act(batch)
            batches.commit()
    earlier = deepcopy(stream.store)
    stream.run()
    stream.store = earlier
    stream.run()

    stream.assert_right(history)


@settings(deadline=None, max_examples=20)
@given(sent=deliveries(30), changed=st.sampled_from([COUNTS, LASTS]), at=st.integers(0, 12))
def test_a_view_that_changes_is_filled_again_and_the_other_counts_nothing_twice(sent, changed, at):
    history, delivered = sent
    other = LASTS if changed is COUNTS else COUNTS
    longer = replace(changed, aggregations=tuple(replace(e, window_us=2 * e.window_us) for e in changed.aggregations))
    stream = Stream(views=(other, changed))
    _fill(stream.log, delivered)
    consumer, batches = stream.start()
    for _ in range(at):
        if batch := consumer.poll(3):
            batches.act(batch)
    stream.views = (other, longer)
    stream.run()

    stream.assert_right(history)


def test_a_view_that_comes_back_gets_what_it_missed():
    stream = Stream()
    events = [event(number, 10 + number, x=1.0) for number in range(3)]
    for views, each in zip([(COUNTS, LASTS), (COUNTS,), (COUNTS, LASTS)], events, strict=True):
        stream.views = views
        stream.log.event(PARTITIONS[0], each)
        stream.run()

    assert stream.store.written is not None and b"lasts" in stream.store.written
    stream.assert_right(events)


def test_a_genuine_event_that_is_later_than_the_history_counts():
    stream = Stream()
    first, late, last = event(1, 10, x=1.0), event(2, 11, known=30, x=1.0), event(3, 30, x=1.0)
    stream.log.event(PARTITIONS[0], first)
    stream.log.watermark(30 * MINUTE)
    stream.run()
    for each in (last, late, replace(first, available_at_us=30 * MINUTE), replace(late, available_at_us=31 * MINUTE)):
        stream.log.event(PARTITIONS[0], each)
        stream.run(1)

    assert stream.online(COUNTS, []).value("a", 31) == 3
    stream.assert_right([first, late, last])


def test_ids_are_kept_until_no_window_reaches_back_to_their_day():
    stream = Stream()
    day = 24 * 60
    first, second = event(1, 10, x=1.0), event(2, day + 10, x=1.0)
    for each in (first, second):
        stream.log.event(PARTITIONS[0], each)
        stream.log.watermark(each.available_at_us)
    stream.run(1)
    assert {name: len(ids) for name, ids in stream.store.packed_ids.items()} == {
        "thing.happened:0": 8,
        "thing.happened:1": 8,
    }

    third = event(3, day + 41, x=1.0)
    stream.log.event(PARTITIONS[0], third)
    stream.log.watermark(third.available_at_us)
    stream.log.watermark(third.available_at_us)
    stream.run(1)
    assert set(stream.store.packed_ids) == {"thing.happened:1"}

    stream.log.event(PARTITIONS[0], replace(first, available_at_us=third.available_at_us))
    stream.run()
    assert set(stream.store.packed_ids) == {"thing.happened:1"}
    stream.assert_right([first, second, third])


def test_the_watermark_is_that_of_the_slowest_partition_and_outlives_a_restart():
    stream = Stream()
    stream.log.event(PARTITIONS[0], event(1, 10, x=1.0))
    stream.log.watermark(20 * MINUTE, PARTITIONS[0])
    stream.run()
    assert stream.store.watermark is None

    stream.log.watermark(15 * MINUTE, PARTITIONS[1])
    stream.run()
    assert stream.store.watermark == 15 * MINUTE

    stream.log.watermark(30 * MINUTE, PARTITIONS[0])
    stream.run()
    assert stream.store.watermark == 15 * MINUTE

    stream.log.watermark(25 * MINUTE, PARTITIONS[1])
    stream.run()
    assert stream.store.watermark == 25 * MINUTE


def test_a_new_partition_holds_the_watermark_where_it_is():
    stream = Stream()
    stream.log.watermark(15 * MINUTE)
    stream.run()
    new = TopicPartition(TOPIC, 2)
    stream.log.records[new] = []
    stream.log.watermark(30 * MINUTE, *PARTITIONS)
    stream.run()
    assert stream.store.watermark == 15 * MINUTE

    stream.log.watermark(30 * MINUTE, new)
    stream.run()
    assert stream.store.watermark == 30 * MINUTE


def test_a_store_that_is_not_where_it_was_left_ends_the_session():
    stream = Stream()
    stream.log.event(PARTITIONS[0], event(1, 10, x=1.0))
    consumer, batches = stream.start()
    batches.act(consumer.poll(3))
    stream.store.start_over()
    stream.log.event(PARTITIONS[0], event(2, 11, x=1.0))

    with pytest.raises(LostGround):
        batches.act(consumer.poll(3))

    assert "lost data" in stream.lifecycle.waiting_for[STORE]


def test_a_store_behind_the_committed_offsets_is_told_until_it_has_caught_up():
    stream = Stream()
    for number in range(6):
        stream.log.event(PARTITIONS[0], event(number, 10 + number, x=1.0))
    stream.run()
    stream.store.hashes.clear()
    stream.store.start_over()

    consumer, batches = stream.start()
    assert "6 records" in stream.lifecycle.waiting_for[STORE]
    batches.act(consumer.poll(4))
    batches.commit()
    assert "2 records" in stream.lifecycle.waiting_for[STORE]
    assert stream.log.committed[PARTITIONS[0]] == 6

    # A restart in between still knows how far it was.
    stream.start()
    assert "2 records" in stream.lifecycle.waiting_for[STORE]
    stream.run()
    assert stream.lifecycle.waiting_for == {}


def test_a_topic_that_was_made_anew_is_no_lost_data():
    stream = Stream()
    good = event(1, 10, x=1.0)
    stream.log.committed[PARTITIONS[0]] = 7
    stream.log.event(PARTITIONS[0], good)
    stream.run()

    assert stream.lifecycle.waiting_for == {}
    stream.assert_right([good])


def test_what_the_store_lacks_is_told_while_it_does_not_answer():
    stream = Stream()
    stream.log.event(PARTITIONS[0], event(1, 10, x=1.0))
    consumer, batches = stream.start()
    batch = consumer.poll(3)
    stream.store.works_for = 0
    with pytest.raises(Unavailable):
        batches.act(batch)
    assert "does not answer" in stream.lifecycle.waiting_for[STORE]

    stream.store.works_for = 100
    batches.act(batch)
    assert stream.lifecycle.waiting_for == {}


def test_a_record_that_cannot_be_read_stops_nothing():
    stream = Stream()
    stream.log.records[PARTITIONS[0]] += [b"\xff\xff", b"", b"\x0a\x02\x0a\x00"]
    good = event(1, 10, x=1.0)
    stream.log.event(PARTITIONS[0], good)
    stream.run()

    stream.assert_right([good])


def test_events_without_the_key_are_nobodys():
    stream = Stream()
    good = event(1, 10, x=1.0)
    stream.log.event(PARTITIONS[0], event(2, 11, who=None, x=1.0))
    stream.log.event(PARTITIONS[0], good)
    stream.run()

    assert len(stream.store.hashes) == 1
    stream.assert_right([good])


def test_a_key_that_the_schema_does_not_allow_any_more_is_nobodys():
    stream = Stream()
    good = event(1, 10, x=1.0)
    for number, who in enumerate((2.5, ["a"], {"a": 1}), start=2):
        stream.log.event(PARTITIONS[0], event(number, 11, who=who, x=1.0))
    stream.log.event(PARTITIONS[0], good)
    stream.run()

    assert len(stream.store.hashes) == 1
    stream.assert_right([good])
