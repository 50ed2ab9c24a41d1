"""An on-demand view is fed the same lists from a request and from a training set."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from services.chassis.errors import Invalid
from services.features.definitions import Column, DataType, OnDemandView, VectorFeature
from services.features.on_demand import run_on_demand

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)


def _view(function: Callable[[dict[str, list[Any]]], dict[str, list[Any]]], *outputs: str) -> OnDemandView:
    return OnDemandView(
        name="computed",
        request_fields=(
            Column("as_of", DataType.TIMESTAMP),
            Column("weight", DataType.DOUBLE),
            Column("place", DataType.STRING),
        ),
        inputs=(VectorFeature("recent", "count"), VectorFeature("recent", "mean")),
        integers=frozenset({"recent__count"}),
        outputs=outputs or ("out",),
        function=function,
    )


def _run(view: OnDemandView, rows: int = 2) -> dict[str, list[float]]:
    request = {"as_of": [AS_OF] * rows, "weight": [1.5, math.nan][:rows], "place": ["", "x"][:rows], "other": [1, 2]}
    windowed = {"recent__count": np.array([3.0, np.nan])[:rows], "recent__mean": np.array([np.nan, 0.5])[:rows]}
    return {name: values.tolist() for name, values in run_on_demand(view, request, windowed).items()}


def test_null_is_none_integers_are_ints_and_timestamps_are_aware():
    seen: dict[str, list[Any]] = {}

    def function(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
        seen.update(inputs)
        return {"out": [1, 2]}

    assert _run(_view(function)) == {"out": [1.0, 2.0]}
    assert seen == {
        "as_of": [AS_OF, AS_OF],
        "weight": [1.5, None],
        "place": [None, "x"],
        "count": [3, None],
        "mean": [None, 0.5],
    }
    assert isinstance(seen["count"][0], int)


def test_none_and_what_is_not_finite_is_no_value():
    found = _run(_view(lambda _: {"a": [None, 1.0], "b": [math.inf, math.nan]}, "a", "b"))

    assert found["a"] == pytest.approx([math.nan, 1.0], nan_ok=True)
    assert found["b"] == pytest.approx([math.nan, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda inputs: {"out": [1 / 0 for _ in inputs["weight"]]}, "fails on these rows: ZeroDivisionError"),
        (lambda _: {}, "output 'out' is not returned"),
        (lambda _: {"out": [1.0]}, r"has shape \(1,\), not one value for each of 2 rows"),
        (lambda _: {"out": ["a", "b"]}, "is no list of numbers"),
    ],
)
def test_a_function_that_fails_is_named(function, says):
    with pytest.raises(Invalid, match=f"on-demand feature view 'computed'.*{says}"):
        _run(_view(function))
