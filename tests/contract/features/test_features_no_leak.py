"""A training row sees what serving could have seen, and nothing else: availability is shifted, and the join follows."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from services.chassis.clock import to_us
from services.features.definitions import Definitions, load_definitions
from services.features.lake import Lake
from services.features.training_sets import TrainingSets
from services.problem import load_recipe
from tests.problems.parcels.upstream import START, parcels
from tests.support import PARCELS
from tests.support.event_lake import EventLake, TypedEvent
from tests.support.feature_oracle import ask

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
AS_OF = START + 12 * HOUR
WINDOWED = [
    "courier_recent__delivered_1h",
    "courier_recent__delay_mean_6h",
    "courier_recent__delay_max_6h",
    "courier_recent__delay_last",
    "shop_days__late_share_3d",
    "pair_days__late_sum_3d",
    "parcel_request__minutes_since_delivery",
]


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return load_definitions(PARCELS)


class Builds:
    """Each training set on a lake of its own."""

    def __init__(self, definitions: Definitions, folder: Path) -> None:
        self._definitions = definitions
        self._folder = folder
        self._number = 0
        self.scratch = EventLake(folder / "scratch", definitions.event_types)

    def of(self, events: list[TypedEvent], span: tuple[datetime, datetime], known_by: datetime) -> pa.Table:
        self._number += 1
        lake = EventLake(self._folder / f"lake-{self._number}", self._definitions.event_types)
        lake.add(events)
        lake.reached(known_by)
        sets = TrainingSets(self._definitions, load_recipe(PARCELS), Lake(str(lake.folder)), self._folder, wait_s=0)
        return pq.read_table(unquote(urlparse(sets.build(*span, known_by).uri).path))


@pytest.fixture
def builds(definitions: Definitions, tmp_path: Path) -> Builds:
    return Builds(definitions, tmp_path)


def _known(event: TypedEvent, at: datetime) -> TypedEvent:
    return replace(event, event=replace(event.event, available_at_us=to_us(at)))


def _one_order(builds: Builds, *history: TypedEvent) -> dict[str, Any]:
    """The row of one order as of AS_OF, with its outcome, after a history."""
    who = {"shop": "shop-1", "courier": "courier-1"}
    lead = load_recipe(PARCELS).spine.lead
    pickup_at = (AS_OF + lead).isoformat().replace("+00:00", "Z")
    lake, known = builds.scratch, AS_OF - HOUR
    ordered = lake.accepted(
        "parcel.ordered", "o", known, known, parcel_id="asked", pickup_at=pickup_at, weight_kg=1.0, **who
    )
    outcome = lake.accepted(
        "parcel.delivered", "d", AS_OF + HOUR, AS_OF + HOUR, parcel_id="asked", delay_minutes=1.0, **who
    )
    table = builds.of([ordered, outcome, *history], (AS_OF, AS_OF + MICROSECOND), AS_OF + 2 * DAY)
    (row,) = table.select(WINDOWED).to_pylist()
    return row


def test_an_event_counts_from_the_microsecond_in_which_it_was_known(builds: Builds):
    before = builds.scratch.accepted(
        "parcel.delivered", "b", AS_OF - 5 * HOUR, AS_OF - 5 * HOUR, parcel_id="p0", shop="shop-1",
        courier="courier-1", delay_minutes=-8.0,
    )  # fmt: skip
    event = builds.scratch.accepted(
        "parcel.delivered", "e", AS_OF - 30 * MINUTE, AS_OF, parcel_id="p1", shop="shop-1",
        courier="courier-1", delay_minutes=20.0,
    )  # fmt: skip

    without = _one_order(builds, before)
    known_then = _one_order(builds, before, _known(event, AS_OF))
    known_a_moment_later = _one_order(builds, before, _known(event, AS_OF + MICROSECOND))
    known_long_before = _one_order(builds, before, _known(event, AS_OF - 29 * MINUTE))

    assert known_a_moment_later == without
    assert known_then == known_long_before
    assert list(without.values()) == [0.0, -8.0, -8.0, -8.0, 0.0, 0.0, 300.0]
    assert list(known_then.values()) == [1.0, 6.0, 20.0, 20.0, 0.5, 1.0, 30.0]


def test_its_own_outcome_is_not_among_a_rows_features(builds: Builds):
    row = _one_order(builds)

    assert all(math.isnan(value) for value in row.values()), "nothing was known of anybody yet"


def _shuffled_availability(builds: Builds, seed: int) -> list[TypedEvent]:
    chance = random.Random(seed)
    events = [builds.scratch.from_cloud_event(each.value) for each in parcels(until=START + 2 * DAY, per_hour=6)]
    late = [0 * MINUTE, 0 * MINUTE, 10 * MINUTE, 5 * HOUR, 20 * HOUR]
    moved = []
    for each in events:
        later_us = chance.choice(late) // MICROSECOND if each.type == "parcel.delivered" else 0
        moved.append(replace(each, event=replace(each.event, available_at_us=each.event.available_at_us + later_us)))
    return moved


def test_what_became_known_later_changes_no_row_of_before(builds: Builds):
    events = _shuffled_availability(builds, seed=1)
    cut = START + 30 * HOUR
    outcomes_known = START + 4 * DAY
    known_by_cut = [each for each in events if each.event.available_at_us <= to_us(cut)]
    # Labels may come later than the rows; only features must not.
    spoilt = [_spoilt(each) if each.event.available_at_us > to_us(cut) else each for each in events]

    rows = builds.of(events, (START, cut), outcomes_known)
    rows_spoilt = builds.of(spoilt, (START, cut), outcomes_known)
    rows_then = builds.of(known_by_cut, (START, cut), cut)

    features = [name for name in rows.column_names if "__" in name]
    assert rows.num_rows > 100
    assert rows_spoilt["parcel_id"] == rows["parcel_id"]
    assert _bits(rows_spoilt.select(features)) == _bits(rows.select(features))
    then = rows.filter(pc.is_in(rows["parcel_id"], rows_then["parcel_id"].combine_chunks()))
    assert 0 < rows_then.num_rows < rows.num_rows
    assert _bits(rows_then.select(features)) == _bits(then.select(features))


def _spoilt(event: TypedEvent) -> TypedEvent:
    """Another delay; what it says of a label may change, what it says to earlier rows must not matter."""
    if event.type != "parcel.delivered":
        return event
    payload = {**event.event.payload, "delay_minutes": 5000.0, "late": 1}
    return replace(event, event=replace(event.event, payload=payload))


def _bits(table: pa.Table) -> list[bytes]:
    return [table[name].to_numpy().tobytes() for name in table.column_names]


def test_shifted_availability_moves_each_row_to_what_the_oracle_says(builds: Builds, definitions: Definitions):
    punctual = _shuffled_availability(builds, seed=2)
    late = [
        _known(each, START + timedelta(microseconds=each.event.available_at_us - to_us(START)) + 3 * HOUR)
        if each.type == "parcel.delivered"
        else each
        for each in punctual
    ]
    span = (START + DAY, START + DAY + 8 * HOUR)
    known_by = START + 5 * DAY
    tables = [builds.of(events, span, known_by) for events in (punctual, late)]

    view = definitions.views["courier_recent"]
    for events, table in zip((punctual, late), tables, strict=True):
        delivered = [each.event for each in events if each.type == "parcel.delivered"]
        for row in table.to_pylist():
            answers = ask(view, delivered, (row["courier"],), to_us(row["as_of"]))
            for name in ("delivered_1h", "delay_mean_6h", "delay_last"):
                expected = answers[name].value
                found = row[f"courier_recent__{name}"]
                assert found == pytest.approx(float("nan") if expected is None else expected, rel=1e-6, nan_ok=True)
    counts = [sum(table["courier_recent__delivered_1h"].to_pylist()) for table in tables]
    assert counts[1] == 0 < counts[0], "three hours later nothing of the last hour is known"


def test_rows_are_those_whose_horizon_was_over_before_the_cut_whatever_had_come_by_then(builds: Builds):
    events = [builds.scratch.from_cloud_event(each.value) for each in parcels(until=START + DAY, per_hour=6)]
    span = (START, START + 20 * HOUR)
    horizon = load_recipe(PARCELS).label.horizon

    whole = builds.of(events, span, START + 9 * DAY).to_pylist()
    for cut in (START + 20 * HOUR, START + 21 * HOUR):
        expected = [row for row in whole if row["as_of"] + horizon < cut]
        assert 0 < len(expected) < len(whole)
        assert builds.of(events, span, cut)["parcel_id"].to_pylist() == [row["parcel_id"] for row in expected]
        delivered = [each.event for each in events if each.type == "parcel.delivered"]
        come = {each.payload["parcel_id"] for each in delivered if each.available_at_us < to_us(cut)}
        assert come & {row["parcel_id"] for row in whole} > {row["parcel_id"] for row in expected}
