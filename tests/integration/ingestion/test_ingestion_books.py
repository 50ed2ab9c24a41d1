"""For each upstream record exactly one holds: a row, a duplicate, a dead letter or a heartbeat."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from itertools import chain

from services.topics import UPSTREAM
from tests.integration.ingestion.platform import EVENT_TYPES, Platform, assert_watermarks_hold, metric
from tests.problems.parcels.upstream import START, heartbeat, parcels
from tests.support import eventually

END = START + timedelta(days=6)
SPOILERS = {
    "malformed": lambda event: json.dumps(event).encode()[:-5],
    "envelope": lambda event: json.dumps(event | {"recordedtime": "1999-01-01T00:00:00Z"}).encode(),
    "unknown_type": lambda event: json.dumps(event | {"type": "parcel.eaten"}).encode(),
    "schema": lambda event: json.dumps(event | {"data": {"parcel_id": "p"}}).encode(),
    "expectation": lambda event: json.dumps(event | {"data": event["data"] | {"shop": "mall"}}).encode(),
}


def _mixed() -> tuple[list[bytes], Counter[str]]:
    """Some events spoilt, some sent again much later, heartbeats between; and how many of each."""
    values: list[bytes] = []
    counts: Counter[str] = Counter()
    good: list[bytes] = []
    spoilers = list(SPOILERS.items())
    for number, event in enumerate(parcels(until=END)):
        if number % 20 == 0:
            reason, spoil = spoilers[number // 20 % len(spoilers)]
            values.append(spoil(json.loads(event.value)))
            counts[reason] += 1
        else:
            good.append(event.value)
            values.append(event.value)
            counts["row"] += 1
        if number % 50 == 0 and len(good) > 40:
            values.append(good[-40] if number % 100 else good[7])
            counts["duplicate"] += 1
        if number % 400 == 0:
            values.append(heartbeat(event.recorded_at).value)
            counts["heartbeat"] += 1
    values.append(heartbeat(END + timedelta(days=1)).value)
    counts["heartbeat"] += 1
    return values, counts


def test_the_books_add_up_through_crashes(platform: Platform):
    values, expected = _mixed()
    platform.send(values)

    with platform.accept() as accept:
        eventually(lambda: metric(accept, "slipway_ingestion_events_total"), "a batch is accepted")
        accept.kill()
    with platform.keep() as lake:
        eventually(lambda: metric(lake, "slipway_lake_rows_total"), "rows are kept")
        lake.kill()
    with platform.accept() as accept, platform.keep() as lake:
        eventually(lambda: metric(lake, "slipway_lake_rows_total"), "more rows are kept")
        lake.kill()
    with platform.accept(), platform.keep():
        last = "2024-03-08T00:00:00Z"
        eventually(lambda: {platform.lake_watermark(name) for name in EVENT_TYPES} == {last}, "all is in the lake")

    rows = list(chain.from_iterable(platform.coordinates(name) for name in EVENT_TYPES))
    duplicates = platform.coordinates("_duplicates")
    dead = {letter["coordinates"]: letter["reason"] for letter in platform.dead()}
    assert Counter(row["event_id"] for name in EVENT_TYPES for row in platform.rows(name)).most_common(1)[0][1] == 1
    assert len(rows) == len(set(rows)) == expected["row"]
    assert len(duplicates) == len(set(duplicates)) == expected["duplicate"]
    assert Counter(dead.values()) == {reason: expected[reason] for reason in SPOILERS}
    assert len({*rows, *duplicates, *dead}) == expected.total() - expected["heartbeat"]
    assert_watermarks_hold(platform)


def test_a_dead_letter_keeps_the_record_and_says_why_and_where_from(platform: Platform):
    bad = SPOILERS["expectation"](json.loads(parcels(until=START + timedelta(hours=1))[0].value))
    platform.send([bad])

    with platform.accept() as accept:
        eventually(lambda: metric(accept, "slipway_ingestion_dead_letters_total"), "it is a dead letter")

    (letter,) = platform.dead()
    assert (letter["key"], letter["value"]) == (b"key-0", bad)
    assert letter["coordinates"] == (UPSTREAM, 0, 0)
    assert (letter["reason"], letter["detail"].partition(":")[0]) == ("expectation", "data.shop")
    assert letter["failed-at"].endswith("Z")
