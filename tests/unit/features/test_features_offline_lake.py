"""What is read of the lake: whole up to a moment, and the same whatever is committed meanwhile."""

from __future__ import annotations

import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from services.chassis.clock import to_us
from services.chassis.errors import Conflict, Unavailable
from services.features.lake import Lake
from services.problem import load_event_types
from tests.support import PARCELS
from tests.support.event_lake import EventLake, TypedEvent
from tests.support.eventually import eventually

TYPES = load_event_types(PARCELS)
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOST, DELIVERED = "parcel.lost", "parcel.delivered"


@pytest.fixture
def lake(tmp_path: Path) -> EventLake:
    return EventLake(tmp_path, TYPES)


def _lost(lake: EventLake, name: str, time: datetime = NOON) -> TypedEvent:
    return lake.accepted(LOST, name, time, time + HOUR, parcel_id=name, shop="shop-1", courier=None)


def test_times_are_microseconds_and_only_the_asked_columns_and_moments_are_read(lake: EventLake):
    lake.add(_lost(lake, f"lost-{hour}", NOON + hour * HOUR) for hour in (-20, 0, 1, 20))

    snapshot = Lake(str(lake.folder)).snapshot([LOST])
    events = snapshot.read(LOST, ["event_time", "parcel_id"], since_us=to_us(NOON), until_us=to_us(NOON + HOUR))

    assert events is not None and events.schema.field("event_time").type == pa.int64()
    found = sorted(events.to_pylist(), key=lambda event: event["event_time"])
    assert found == [
        {"event_time": to_us(NOON), "parcel_id": "lost-0"},
        {"event_time": to_us(NOON + HOUR), "parcel_id": "lost-1"},
    ]


def test_a_snapshot_does_not_see_what_is_committed_later(lake: EventLake):
    lake.add([_lost(lake, "first")])
    snapshot = Lake(str(lake.folder)).snapshot([LOST])
    lake.add([_lost(lake, "second")])
    DeltaTable(str(lake.folder / LOST)).optimize.compact()

    events = snapshot.read(LOST, ["parcel_id"])

    assert events is not None and events["parcel_id"].to_pylist() == ["first"]
    assert snapshot.versions == {LOST: 1}


def test_the_watermark_is_that_of_the_type_that_is_furthest_behind(lake: EventLake):
    lake.reached(NOON, LOST)
    assert Lake(str(lake.folder)).snapshot([LOST, DELIVERED]).watermark_us is None

    lake.reached(NOON - HOUR, DELIVERED)
    assert Lake(str(lake.folder)).snapshot([LOST, DELIVERED]).watermark_us == to_us(NOON - HOUR)


def test_a_compaction_does_not_hide_the_watermark(lake: EventLake):
    lake.add([_lost(lake, "first")])
    lake.add([_lost(lake, "second")])
    lake.reached(NOON, LOST)
    DeltaTable(str(lake.folder / LOST)).optimize.compact()

    snapshot = Lake(str(lake.folder)).snapshot([LOST])

    assert snapshot.watermark_us == to_us(NOON)
    assert snapshot.versions == {LOST: 4}


def test_a_lake_whose_tables_are_not_all_created_yet_has_come_nowhere(lake: EventLake):
    shutil.rmtree(lake.folder / DELIVERED)
    lake.reached(NOON, LOST)

    snapshot = Lake(str(lake.folder)).snapshot([LOST, DELIVERED])

    assert snapshot.watermark_us is None
    assert snapshot.read(DELIVERED, ["event_time"]) is None
    with pytest.raises(Conflict, match=r"nothing of parcel\.delivered is in it yet"):
        Lake(str(lake.folder)).snapshot_known_by([LOST, DELIVERED], NOON, wait_s=0, tell=str)


def test_a_type_of_which_nothing_ever_came_holds_nothing_back(lake: EventLake):
    lake.add([_lost(lake, "first")])
    lake.reached(NOON)

    snapshot = Lake(str(lake.folder)).snapshot([LOST, DELIVERED])

    assert snapshot.watermark_us == to_us(NOON)
    events = snapshot.read(DELIVERED, ["event_time"])
    assert events is not None and events.num_rows == 0


def test_it_waits_for_what_the_lake_lacks_and_says_so(lake: EventLake):
    lake.reached(NOON - HOUR)
    told: list[str] = []
    versions: list[dict[str, int]] = []

    def wait() -> None:
        snapshot = Lake(str(lake.folder)).snapshot_known_by([LOST], NOON, wait_s=30, tell=told.append)
        versions.append(snapshot.versions)

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: told, "it tells that it waits")
    lake.reached(NOON)
    waiting.join(timeout=30)

    assert versions == [{LOST: 2}]
    assert told[0] == "waiting for the lake to come to 2024-03-01T12:00:00Z; it has come to 2024-03-01T11:00:00Z"


def test_a_lake_that_does_not_come_that_far_is_a_conflict_that_says_how_far_it_came(lake: EventLake):
    lake.reached(NOON - HOUR)
    with pytest.raises(Conflict, match=r"known_by: 2024-03-01T12:00:00Z is ahead .* it has come to 2024-03-01T11"):
        Lake(str(lake.folder)).snapshot_known_by([LOST], NOON, wait_s=0, tell=str)

    with pytest.raises(Conflict, match=r"nothing of parcel\.lost is in it yet"):
        Lake(str(lake.folder / "elsewhere")).snapshot_known_by([LOST], NOON, wait_s=0, tell=str)


def test_a_column_that_the_table_lacks_is_named(lake: EventLake):
    with pytest.raises(Conflict, match=r"'parcel\.lost' has no column 'colour' yet"):
        Lake(str(lake.folder)).snapshot([LOST]).read(LOST, ["event_time", "colour"])


def test_a_table_that_cannot_be_read_is_unavailable(lake: EventLake):
    lake.add([_lost(lake, "first")])
    snapshot = Lake(str(lake.folder)).snapshot([LOST])
    for file in (lake.folder / LOST).rglob("*.parquet"):
        file.unlink()

    with pytest.raises(Unavailable, match=r"parcel\.lost"):
        snapshot.read(LOST, ["parcel_id"])
