from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from services.chassis.errors import Invalid, Unavailable
from services.ingestion.columns import Kind
from services.ingestion.lake.rows import Row, table_schema
from services.ingestion.lake.table import LakeTable, Source
from services.ingestion.lake.writer import LakeWriter
from tests.unit.ingestion.documents import EVENT_TYPES

TYPE = "parcel.delivered"
SOURCE = Source("events.parcel.delivered.v1", 0)
DAY_US = 86_400_000_000
MARCH_1 = 19783
PAYLOAD = b'{"parcel_id":"p","shop":"shop-1","courier":null,"delay_minutes":4.0,"late":1}'


def _row(event_id: str, origin_offset: int, day: int = MARCH_1) -> Row:
    at = day * DAY_US + 1_500_000
    return Row(event_id, at, at + 1, at + 2, ("upstream.events.v1", 0, origin_offset), day, PAYLOAD)


@pytest.fixture
def open_lake(tmp_path: Path) -> Callable[[], LakeWriter]:
    """Another process's writer, as after a crash."""
    return lambda: LakeWriter(str(tmp_path), EVENT_TYPES, 1000)


def _rows(folder: Path, table: str = TYPE) -> list[dict[str, Any]]:
    found = DeltaTable(str(folder / table)).to_pyarrow_table().to_pylist()
    return sorted(found, key=lambda row: row["source_offset"])


def _last_commit(folder: Path, table: str = TYPE) -> dict[str, Any]:
    return DeltaTable(str(folder / table)).history(1)[0]


def test_a_reader_finds_every_table_before_the_first_event(open_lake: Callable[[], LakeWriter], tmp_path: Path):
    open_lake()

    assert [field.name for field in DeltaTable(str(tmp_path / TYPE)).schema().fields] == [
        *("event_id", "event_time", "available_at", "processed_at", "source_topic", "source_partition"),
        *("source_offset", "parcel_id", "shop", "courier", "delay_minutes", "late", "event_date"),
    ]
    assert _rows(tmp_path, "parcel.lost") == []
    assert _rows(tmp_path, "_duplicates") == []


def test_rows_are_committed_with_the_offset_and_the_watermark(open_lake: Callable[[], LakeWriter], tmp_path: Path):
    lake = open_lake()
    lake.add(TYPE, _row("a", 7), SOURCE, 3)
    lake.watermark(TYPE, MARCH_1 * DAY_US, SOURCE, 4)
    lake.flush()

    (row,) = _rows(tmp_path)
    assert row["event_time"].isoformat() == "2024-03-01T00:00:01.500000+00:00"
    assert (row["event_date"], row["late"], row["courier"]) == (date(2024, 3, 1), 1, None)
    assert DeltaTable(str(tmp_path / TYPE)).transaction_version("events.parcel.delivered.v1-0") == 4
    assert _last_commit(tmp_path)["slipway.watermark"] == "2024-03-01T00:00:00Z"
    assert not lake.watermark_moved


def test_a_watermark_alone_makes_a_commit_without_files(open_lake: Callable[[], LakeWriter], tmp_path: Path):
    lake = open_lake()
    for offset in (1, 2):
        lake.watermark(TYPE, MARCH_1 * DAY_US + offset, SOURCE, offset)
        lake.flush()
    lake.add(TYPE, _row("a", 7), SOURCE, 3)
    lake.flush()

    table = DeltaTable(str(tmp_path / TYPE))
    assert (table.version(), len(table.file_uris())) == (3, 1)
    assert _last_commit(tmp_path)["slipway.watermark"] == "2024-03-01T00:00:00.000002Z"
    assert DeltaTable(str(tmp_path / "parcel.lost")).version() == 0


def test_the_watermark_of_the_last_commit_outlives_a_restart(open_lake: Callable[[], LakeWriter], tmp_path: Path):
    lake = open_lake()
    lake.watermark(TYPE, MARCH_1 * DAY_US, SOURCE, 1)
    lake.flush()

    again = open_lake()
    again.watermark(TYPE, MARCH_1 * DAY_US - 5, SOURCE, 0)
    assert not again.watermark_moved
    again.add(TYPE, _row("a", 7), SOURCE, 2)
    again.flush()

    assert _last_commit(tmp_path)["slipway.watermark"] == "2024-03-01T00:00:00Z"


def test_upstreams_duplicates_lie_apart_once_for_their_coordinates(open_lake: Callable[[], LakeWriter], tmp_path: Path):
    lake = open_lake()
    lake.add(TYPE, _row("a", 7), SOURCE, 0)
    lake.add(TYPE, _row("a", 8), SOURCE, 1)
    lake.flush()
    again = open_lake()
    again.add(TYPE, _row("a", 8), SOURCE, 2)
    again.add(TYPE, _row("a", 9), SOURCE, 3)
    again.flush()

    assert [row["source_offset"] for row in _rows(tmp_path)] == [7]
    duplicates = _rows(tmp_path, "_duplicates")
    assert [(row["event_id"], row["type"], row["source_offset"]) for row in duplicates] == [
        ("a", TYPE, 8),
        ("a", TYPE, 9),
    ]


def test_what_was_committed_before_a_crash_is_not_stored_again(open_lake: Callable[[], LakeWriter], tmp_path: Path):
    delivered = [_row("a", 1), _row("b", 2), _row("a", 3), _row("c", 4, MARCH_1 + 1)]
    lake = open_lake()
    for offset, row in enumerate(delivered[:3]):
        lake.add(TYPE, row, SOURCE, offset)
    lake.flush()

    again = open_lake()
    for offset, row in enumerate(delivered):
        again.add(TYPE, row, SOURCE, offset)
    again.flush()

    assert [row["source_offset"] for row in _rows(tmp_path)] == [1, 2, 4]
    assert [row["source_offset"] for row in _rows(tmp_path, "_duplicates")] == [3]


def test_a_crash_between_the_rows_and_the_duplicates_loses_none(open_lake: Callable[[], LakeWriter], tmp_path: Path):
    delivered = [_row("a", 1), _row("a", 2), _row("b", 3)]
    for _ in range(2):
        lake = open_lake()
        for offset, row in enumerate(delivered):
            lake.add(TYPE, row, SOURCE, offset)
        lake.flush()
        if _ == 0:
            shutil.rmtree(tmp_path / "_duplicates")

    assert [row["source_offset"] for row in _rows(tmp_path)] == [1, 3]
    assert [row["source_offset"] for row in _rows(tmp_path, "_duplicates")] == [2]


def test_an_id_is_one_of_its_day(open_lake: Callable[[], LakeWriter], tmp_path: Path):
    lake = open_lake()
    lake.add(TYPE, _row("a", 1), SOURCE, 0)
    lake.add(TYPE, _row("a", 2, MARCH_1 + 1), SOURCE, 1)
    lake.flush()

    assert [row["source_offset"] for row in _rows(tmp_path)] == [1, 2]


def test_a_new_field_becomes_a_column(tmp_path: Path):
    LakeTable(str(tmp_path / "t"), table_schema({"a": Kind.STRING}))
    LakeTable(str(tmp_path / "t"), table_schema({"a": Kind.STRING, "b": Kind.FLOAT64}))

    assert DeltaTable(str(tmp_path / "t")).schema().to_arrow().field("b").name == "b"


def test_a_field_of_another_type_is_refused_by_name(tmp_path: Path):
    LakeTable(str(tmp_path / "t"), table_schema({"a": Kind.STRING}))

    with pytest.raises(Invalid, match="column 'a'"):
        LakeTable(str(tmp_path / "t"), table_schema({"a": Kind.INT64}))


def test_a_store_that_takes_nothing_is_unavailable(tmp_path: Path):
    (tmp_path / "t").write_text("a file, not a folder")

    with pytest.raises(Unavailable, match="t: "):
        LakeTable(str(tmp_path / "t"), pa.schema([pa.field("event_date", pa.date32())]))
