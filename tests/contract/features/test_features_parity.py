"""A training set holds what was served: the stream asked while it ran, the lake long after, the same numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlparse

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.chassis.clock import from_us, parse_rfc3339, to_us
from services.features.definitions import Aggregation, Definitions, Function, WindowedView, load_definitions
from services.features.lake import Lake
from services.features.offline import windowed_values
from services.features.rows import Rows
from services.features.training_sets import TrainingSets
from services.problem import load_recipe
from tests.contract.features.online import OnlineFeatures
from tests.problems.parcels.upstream import START, parcels
from tests.support import PARCELS
from tests.support.event_lake import EventLake, TypedEvent
from tests.support.feature_oracle import FactualEvent

MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
DAY = timedelta(days=1)
HISTORY_US = 24 * HOUR_US
SERVICE = "parcel_delay_v1"


def _delayed(events: list[TypedEvent], chance: random.Random) -> list[TypedEvent]:
    """Some become known late, a few of them after days; in the order in which all became known."""
    late_us = [0, 0, 0, 0, 7 * MINUTE_US, 3 * HOUR_US, 50 * HOUR_US]
    moved = []
    for each in events:
        event = each.event
        known_us = event.available_at_us + (chance.choice(late_us) if each.type == "parcel.delivered" else 0)
        moved.append(TypedEvent(each.type, FactualEvent(event.event_id, event.event_time_us, known_us, event.payload)))
    return sorted(moved, key=lambda each: each.event.available_at_us)


def _batches(events: list[TypedEvent], chance: random.Random, largest: int) -> Iterator[tuple[list[TypedEvent], int]]:
    """The stream in batches, each with its watermark.

    Every tenth event comes again with the next batch, and something of all that came before as if it were new.
    """
    again: list[TypedEvent] = []
    start = 0
    while start < len(events):
        batch = events[start : start + chance.randint(1, largest)]
        start += len(batch)
        now_us = batch[-1].event.available_at_us
        repeated = chance.choices(events[:start], k=2)
        yield [*again, *batch, *(_available_at(now_us, each) for each in repeated)], now_us
        again = batch[::10]


def _available_at(moment_us: int, event: TypedEvent) -> TypedEvent:
    return replace(event, event=replace(event.event, available_at_us=moment_us))


def _rows(orders: list[dict[str, object]], moments_us: list[int]) -> Rows:
    """As serving gets them: null keys as "", instants parsed."""
    columns = {name: [order[name] for order in orders] for name in ("shop", "courier", "weight_kg")}
    pickups = [parse_rfc3339(str(order["pickup_at"])) for order in orders]
    return Rows(columns | {"pickup_at": pickups}, np.array(moments_us))


def _served(definitions: Definitions, events: list[TypedEvent], chance: random.Random) -> dict[str, np.ndarray]:
    """The vector of each order, asked for as soon as the stream has come to its moment."""
    lead_us = load_recipe(PARCELS).spine.lead // timedelta(microseconds=1)
    orders = [each.event.payload for each in events if each.type == "parcel.ordered"]
    waiting = sorted(
        (to_us(parse_rfc3339(order["pickup_at"])) - lead_us, order["parcel_id"], order) for order in orders
    )
    online, vectors = OnlineFeatures(definitions, HISTORY_US), {}
    for batch, watermark_us in _batches(events, chance, largest=60):
        online.take(batch, watermark_us)
        # What is available at the watermark itself may come with the next batch.
        due = [each for each in waiting if each[0] < watermark_us]
        waiting = waiting[len(due) :]
        if due:
            rows = _rows([order for _, _, order in due], [moment for moment, _, _ in due])
            found = online.vectors(SERVICE, rows).values
            vectors |= {parcel: found[n] for n, (_, parcel, _) in enumerate(due)}
    return vectors


@pytest.mark.parametrize("seed", [1, 2])
def test_a_training_set_holds_what_was_served(seed: int, tmp_path: Path):
    chance = random.Random(seed)
    definitions, recipe = load_definitions(PARCELS), load_recipe(PARCELS)
    lake = EventLake(tmp_path / "lake", definitions.event_types)
    sent = [lake.from_cloud_event(each.value) for each in parcels(until=START + 4 * DAY, per_hour=12, seed=seed)]
    events = _delayed(sent, chance)
    served = _served(definitions, events, chance)
    lake.add(events)
    lake.reached(START + 8 * DAY)

    built = TrainingSets(definitions, recipe, Lake(str(lake.folder)), tmp_path).build(
        START, START + 4 * DAY, START + 8 * DAY
    )

    table = pq.read_table(unquote(urlparse(built.uri).path))
    offline = np.column_stack([table[name].to_numpy() for name in built.features])
    online = np.array([served[parcel] for parcel in table["parcel_id"].to_pylist()])
    assert table.num_rows > 500
    for name, was, holds in zip(built.features, online.T, offline.T, strict=True):
        np.testing.assert_allclose(holds, was, rtol=1e-6, atol=1e-6, err_msg=name)
    assert 0.01 < np.isnan(offline).mean() < 0.5


SPANS_US = [(60 * MINUTE_US, MINUTE_US), (6 * HOUR_US, HOUR_US), (72 * HOUR_US, 24 * HOUR_US)]
COLUMNS = {"real": pa.float64(), "flag": pa.bool_(), "text": pa.string()}


def _all_functions() -> WindowedView:
    columns = {Function.COUNT: ("real", "text"), Function.COUNT_DISTINCT: ("real", "text")}
    aggregations = tuple(
        Aggregation(f"{function}_{column}_{n}", column, function, window_us, slide_us, integer=False)
        for function in Function
        for column in columns.get(function, ("real", "flag", "event_time"))
        for n, (window_us, slide_us) in enumerate(SPANS_US)
    )
    return WindowedView("all_functions", "thing.happened", ("who",), aggregations, ttl_us=0)


def _things(chance: random.Random, number: int) -> list[TypedEvent]:
    things = []
    for n in range(number):
        at = to_us(START) + chance.randrange(6 * 24 * 60) * MINUTE_US
        payload = {
            "who": chance.choice(["a", "b", "c", None]),
            "real": chance.choice([None, chance.gauss(10, 1000), 7.25]),
            "flag": chance.choice([None, True, False]),
            "text": chance.choice([None, "x", "y", "z", ""]),
        }
        late_us = chance.choice([0, 0, MINUTE_US, 5 * HOUR_US, 30 * HOUR_US])
        things.append(TypedEvent("thing.happened", FactualEvent(f"thing-{n}", at, at + late_us, payload)))
    return sorted(things, key=lambda each: each.event.available_at_us)


def test_all_functions_agree_as_of_any_moment_that_the_stream_still_keeps():
    chance = random.Random(3)
    view = _all_functions()
    online = OnlineFeatures(Definitions("test", {view.name: view}, {}, {}), HISTORY_US)
    events = _things(chance, 1500)
    asked: dict[tuple[str, int], np.ndarray] = {}
    for batch, watermark_us in _batches(events, chance, largest=80):
        online.take(batch, watermark_us)
        moments = [watermark_us - 1 - chance.randrange(HISTORY_US - 1) for _ in range(10)]
        keys = [(chance.choice("abcd"),) for _ in moments]
        answers = online.view_answers(view.name, keys, moments)
        asked |= {(*key, moment): values for key, moment, values in zip(keys, moments, answers.values, strict=True)}

    offline = _offline(view, [each.event for each in events], list(asked))

    names = [each.name for each in view.aggregations]
    assert len(offline) == len(asked) > 300
    for (who, moment), was in asked.items():
        holds = [np.nan if offline[who, moment][name] is None else offline[who, moment][name] for name in names]
        np.testing.assert_allclose(holds, was, rtol=1e-6, atol=1e-6, err_msg=f"{who} {from_us(moment)} {names}")


def _offline(
    view: WindowedView, events: list[FactualEvent], asked: list[tuple[str, int]]
) -> dict[tuple[str, int], dict[str, float | None]]:
    rows = [{"event_time": each.event_time_us, "available_at": each.available_at_us, **each.payload} for each in events]
    kinds = {"event_time": pa.int64(), "available_at": pa.int64(), "who": pa.string(), **COLUMNS}
    table = ibis.memtable(pa.Table.from_pylist(rows, pa.schema(kinds)))
    first_known = table.filter(table.who.notnull()).group_by("who").agg(available_at=table.available_at.min())
    moments = ibis.memtable(pa.table({"who": [who for who, _ in asked], "as_of": [moment for _, moment in asked]}))
    found = ibis.duckdb.connect(threads=1).to_pyarrow(windowed_values(view, table, first_known, moments))
    return {(row["who"], row["as_of"]): row for row in found.to_pylist()}
