"""A question is checked column by column, and the error names the one that is wrong."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from services.chassis.errors import Invalid
from services.features.definitions import Column, DataType, VectorPlan
from services.features.rows import Given, Rows, check_rows

PLAN = VectorPlan(
    name="service",
    features=(),
    windowed=(),
    on_demand=(),
    join_keys=(Column("shop", DataType.STRING), Column("number", DataType.INT64)),
    request_fields=(Column("weight", DataType.DOUBLE), Column("pickup_at", DataType.TIMESTAMP)),
)
NOW = 1_700_000_000_000_000
GOOD: dict[str, dict[str, Any]] = {
    "shop": {"strings": ["s", ""]},
    "number": {"ints": [1, 2]},
    "weight": {"doubles": [1.5, math.nan]},
    "pickup_at": {"strings": ["2024-03-01T12:00:00+02:00", ""]},
}


def _check(
    columns: dict[str, dict[str, Any]], as_of_us: list[int] | None = None, more: list[Given] | None = None
) -> Rows:
    given = [Given(name, {"strings": [], "ints": [], "doubles": []} | lists) for name, lists in columns.items()]
    return check_rows(PLAN, given + (more or []), as_of_us or [], NOW, max_rows=3)


def test_each_column_comes_in_its_own_kind_and_as_of_is_now_unless_given():
    rows = _check(GOOD)

    assert rows.columns["shop"] == ["s", None]
    assert rows.columns["number"] == [1, 2]
    assert rows.columns["pickup_at"] == [datetime(2024, 3, 1, 10, tzinfo=UTC), None]
    assert rows.as_of_us.tolist() == [NOW, NOW]
    assert _check(GOOD, [0, NOW]).as_of == [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shop": None}, "'shop' is missing; 'service' takes shop, number, weight, pickup_at"),
        ({"colour": {"strings": ["red", "blue"]}}, "'service' has no 'colour'; it takes shop"),
        ({"number": {"strings": ["1", "2"]}}, "'number' is int64: give it in ints, not in strings"),
        ({"shop": {"strings": ["s", "t"], "ints": [1]}}, "'shop' is string: give it in strings, not in ints"),
        ({"weight": {"doubles": [1.0]}}, "'weight' has 1 values, 'shop' has 2"),
        ({"pickup_at": {"strings": ["noon", ""]}}, "'pickup_at': 'noon' is no RFC 3339 instant"),
        ({"pickup_at": {"strings": ["2024-03-01T12:00:00", ""]}}, "'pickup_at': .* has no UTC offset"),
        ({name: {} for name in GOOD}, "0 rows; a call has 1 to 3"),
        ({name: {kind: each[kind] * 2 for kind in each} for name, each in GOOD.items()}, "4 rows; a call has 1 to 3"),
    ],
)
def test_what_is_wrong_is_named(changes, says):
    columns = {name: lists for name, lists in (GOOD | changes).items() if lists is not None}

    with pytest.raises(Invalid, match=f"columns: {says}"):
        _check(columns)


def test_a_column_given_twice_is_refused():
    with pytest.raises(Invalid, match="twice"):
        _check(GOOD, more=[Given("shop", {"strings": ["a", "b"]})])


@pytest.mark.parametrize(
    ("as_of_us", "says"),
    [([NOW], "1 moments for 2 rows"), ([NOW, -1], "-1 is no moment"), ([2**62, NOW], f"{2**62} is no moment")],
)
def test_moments_that_cannot_be_are_refused(as_of_us, says):
    with pytest.raises(Invalid, match=f"as_of_us: {says}"):
        _check(GOOD, as_of_us)
