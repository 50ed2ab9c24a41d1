"""The watermark's promise, with events that come late and a process that ends at the worst moment."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

from services.chassis.clock import from_proto, parse_rfc3339, rfc3339, utc_now
from services.chassis.kafka import consume, ensure_topics, make_producer
from services.chassis.kafka_session import whole_consumer
from services.ingestion.consumer import GROUP, Batches
from services.ingestion.publisher import Publisher
from services.ingestion.stamping import Stamper
from services.ingestion.validation import Validator
from services.topics import UPSTREAM, dead_letters, events_topic
from tests.integration.ingestion.platform import EVENT_TYPES, Platform, assert_watermarks_hold, metric
from tests.problems.parcels.upstream import START, heartbeat
from tests.support import eventually

TYPE = "parcel.lost"


def _lost(number: int, recorded: str, **changes: object) -> bytes:
    data = {"parcel_id": f"parcel-{number}", "shop": "shop-1", "courier": None}
    event = {"specversion": "1.0", "id": f"{number}", "source": "/parcels", "type": TYPE, "data": data}
    times = {"time": "2024-03-01T09:00:00Z", "recordedtime": f"2024-03-01T{recorded}Z"}
    return json.dumps(event | times | changes).encode()


def _available(platform: Platform) -> dict[str, str]:
    return {event.event_id: rfc3339(from_proto(event.available_at))[11:19] for event in platform.events(TYPE)}


def _watermarks(platform: Platform, event_type: str = TYPE) -> list[tuple[int, str]]:
    return [
        (partition, rfc3339(from_proto(message.watermark.available_at)))
        for partition, message in platform.published(event_type)
        if message.HasField("watermark")
    ]


def test_an_event_that_comes_late_is_available_when_it_came(platform: Platform):
    five_past = rfc3339(START + timedelta(hours=10, minutes=5))
    platform.send([_lost(1, "10:00:00"), heartbeat(START + timedelta(hours=10, minutes=5)).value])
    with platform.accept():
        for event_type in EVENT_TYPES:
            eventually(
                lambda name=event_type: {(0, five_past), (1, five_past)} <= set(_watermarks(platform, name)),
                "each partition has the watermark",
            )
        platform.send([_lost(2, "10:01:00")])
        eventually(lambda: "2" in _available(platform), "the late event is published")
    platform.send([_lost(3, "10:02:00"), _lost(4, "10:06:00"), _lost(5, "10:05:30")])
    with platform.accept() as accept:
        eventually(lambda: "5" in _available(platform), "the state outlives a restart")
        assert metric(accept, "slipway_ingestion_late_events_total") == 2

    assert _available(platform) == {
        "1": "10:00:00",
        "2": "10:05:00",
        "3": "10:05:00",
        "4": "10:06:00",
        "5": "10:06:00",
    }
    assert_watermarks_hold(platform)


def test_a_batch_published_twice_carries_the_same_stamps(platform: Platform):
    platform.send([_lost(1, "10:00:00"), b"bad", _lost(2, "10:03:00"), _lost(3, "10:02:00")])
    _publish_and_crash(platform)
    first = platform.events(TYPE)
    assert len(first) == 3
    assert _watermarks(platform) == []

    with platform.accept():
        eventually(lambda: _watermarks(platform), "the batch is published again, and its watermark")

    published = platform.events(TYPE)
    assert len(published) == 6
    for again in published:
        before = next(event for event in first if event.event_id == again.event_id)
        assert (again.available_at, again.origin) == (before.available_at, before.origin)
    assert len(platform.dead()) == 2
    assert len({letter["coordinates"] for letter in platform.dead()}) == 1
    assert_watermarks_hold(platform)


def test_with_our_own_clock_the_watermark_goes_on_while_nothing_comes(platform: Platform):
    began = rfc3339(utc_now())
    platform.send([_lost(1, "10:00:00", recordedtime=None)])
    with platform.accept(SLIPWAY_AVAILABILITY="clock", SLIPWAY_IDLE_WATERMARK_S="0.1"):
        eventually(lambda: len(_watermarks(platform)) >= 6, "the watermark moves on both partitions")

    (event,) = platform.events(TYPE)
    assert from_proto(event.available_at) >= parse_rfc3339(began)
    assert_watermarks_hold(platform)


def _publish_and_crash(platform: Platform) -> None:
    """What a process does that ends after the broker has all of a batch, before it commits."""
    ensure_topics(platform.kafka, [dead_letters(UPSTREAM), *(events_topic(name).name for name in EVENT_TYPES)])
    producer = make_producer(platform.kafka)
    consumer = whole_consumer(platform.kafka, GROUP, [UPSTREAM])
    batches = Batches(
        consumer=consumer,
        publisher=Publisher(producer, EVENT_TYPES),
        validator=Validator(EVENT_TYPES, utc_now, recordedtime_required=True),
        stamper=Stamper(trust_recordedtime=True),
        now=utc_now,
        idle_watermark_s=1.0,
    )
    published = threading.Event()
    consume(consumer, batches.accept, published, commit=published.set)
    producer.close()
