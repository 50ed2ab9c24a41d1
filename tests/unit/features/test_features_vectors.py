"""Vectors put together from the online store and from on-demand views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.chassis.errors import OutOfRange
from services.features.definitions import Column, DataType, Function, OnDemandView, VectorFeature, VectorPlan
from services.features.metrics import StatusCounts
from services.features.reading import MISSING, PRESENT, STALE
from services.features.rows import Rows
from services.features.state import BEFORE_ALL
from services.features.vectors import Vectors, VectorService
from services.features.view_updates import ViewUpdates
from tests.unit.features.fakes import FakeServing, FakeStore
from tests.unit.features.online import MINUTE, PROJECT, columns_of, event, view_of

HISTORY = 30 * MINUTE
WHO = view_of((Function.COUNT, "x", 10, 1), (Function.LAST, "x", 10, 1), name="who", ttl=5)
SUMS = view_of((Function.SUM, "x", 10, 1), name="sums")


def _per_event(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    weights = [None if n is None else weight / n for weight, n in zip(inputs["weight"], inputs["f0"], strict=True)]
    return {"weight_per_event": weights, "minute": [as_of.minute for as_of in inputs["as_of"]]}


COMPUTED = OnDemandView(
    name="computed",
    request_fields=(Column("as_of", DataType.TIMESTAMP), Column("weight", DataType.DOUBLE)),
    inputs=(VectorFeature("who", "f0"),),
    integers=frozenset(),
    outputs=("weight_per_event", "minute"),
    function=_per_event,
)
PLAN = VectorPlan(
    name="service",
    features=(
        VectorFeature("sums", "f0"),
        VectorFeature("computed", "weight_per_event"),
        VectorFeature("who", "f1"),
        VectorFeature("computed", "minute"),
    ),
    windowed=(WHO, SUMS),
    on_demand=(COMPUTED,),
    join_keys=(Column("who", DataType.STRING),),
    request_fields=(Column("weight", DataType.DOUBLE),),
)


def _store(watermark: int | None = None) -> FakeStore:
    store = FakeStore(watermark=watermark)
    for view in (WHO, SUMS):
        updates = ViewUpdates(PROJECT, view)
        touched = updates.touched(columns_of([event(1, 20, x=2.0), event(2, 22, x=5.0), event(3, 22, who="b", x=1.0)]))
        fields, _ = updates.updated(
            touched, [None] * len(touched.keys), mark_us=BEFORE_ALL, seen=lambda times_us, _: times_us < BEFORE_ALL
        )
        store.write(dict(zip(touched.keys, fields, strict=True)))
    return store


async def _vectors(store: FakeStore, whos: list[str | None], minutes: list[int]) -> Vectors:
    service = VectorService(PROJECT, PLAN, FakeServing(store), HISTORY)
    rows = Rows({"who": whos, "weight": [10.0] * len(whos)}, np.array(minutes, np.int64) * MINUTE)
    return await service.vectors(rows)


async def test_a_vector_is_in_the_order_of_the_feature_service():
    found = await _vectors(_store(23 * MINUTE), ["a", "b", "a"], [23, 23, 21])

    assert found.values.dtype == np.dtype("<f4")
    assert found.values.tolist() == [[7.0, 5.0, 5.0, 23.0], [1.0, 10.0, 1.0, 23.0], [2.0, 10.0, 2.0, 21.0]]
    assert (found.statuses == PRESENT).all()
    assert found.watermark_us == 23 * MINUTE


async def test_who_was_never_seen_and_who_is_null_has_no_windowed_values():
    found = await _vectors(_store(), ["nobody", None, ""], [23, 23, 23])

    expected = [[np.nan, np.nan, np.nan, 23.0]] * 3
    np.testing.assert_array_equal(found.values, np.array(expected, np.float32))
    assert found.statuses.tolist() == [[MISSING, MISSING, MISSING, PRESENT]] * 3


async def test_a_stale_value_is_given_and_flagged():
    found = await _vectors(_store(), ["a"], [30])

    assert found.values.tolist() == [[7.0, 5.0, 5.0, 30.0]]
    assert found.statuses.tolist() == [[PRESENT, PRESENT, STALE, PRESENT]]


async def test_a_moment_further_back_than_the_history_is_refused_by_the_watermark_read_last():
    store = _store(50 * MINUTE)
    await _vectors(store, ["a"], [21])

    store.watermark_moves_to = 52 * MINUTE
    assert (await _vectors(store, ["a"], [22])).watermark_us == 50 * MINUTE
    with pytest.raises(OutOfRange, match="as_of_us: 1970-01-01T00:21:00Z lies before 1970-01-01T00:22:00Z"):
        await _vectors(store, ["a", "a"], [22, 21])


async def test_missing_and_stale_values_are_counted_by_feature():
    statuses = StatusCounts()
    for whos, minutes in ((["a"], [30]), (["nobody", "a"], [23, 23])):
        statuses.count(
            "service", [each.name for each in PLAN.features], (await _vectors(_store(), whos, minutes)).statuses
        )

    counted = {
        (family.name, sample.labels["feature"]): sample.value
        for family in statuses.collect()
        for sample in family.samples
        if sample.value
    }
    assert counted == {
        ("slipway_features_missing", "sums__f0"): 1,
        ("slipway_features_missing", "computed__weight_per_event"): 1,
        ("slipway_features_missing", "who__f1"): 1,
        ("slipway_features_stale", "who__f1"): 1,
    }
