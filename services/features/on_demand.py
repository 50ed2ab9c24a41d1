"""Runs an on-demand view: the same function, fed the same way, for a request's rows and for a training set's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Invalid
from services.features.definitions import OnDemandView

Floats = NDArray[np.float64]


def run_on_demand(
    view: OnDemandView, request: Mapping[str, Sequence[Any]], windowed: Mapping[str, Floats]
) -> dict[str, Floats]:
    """The outputs by name, one float64 for each row; NaN where there is none (None, NaN or infinite).

    `request` has a list for each request field (more are ignored): str, int, float, or aware UTC datetimes for
    timestamps and `as_of`; None, "" and NaN are null. `windowed` has the values of each input by
    `<view>__<feature>`, NaN where there is none.
    Raises Invalid, naming the view, if the function fails on these rows or gives something else than numbers.
    """
    inputs = {field.name: [_nullable(value) for value in request[field.name]] for field in view.request_fields}
    for each in view.inputs:
        inputs[each.feature] = _optional(windowed[each.name], integer=each.name in view.integers)
    rows = max((len(values) for values in inputs.values()), default=0)
    try:
        outputs = view.function(inputs)
    except Exception as error:  # the problem's own function, on a value nobody thought of
        raise Invalid(f"on-demand feature view {view.name!r} fails on these rows: {error!r}") from error
    return {name: _floats(view, name, outputs, rows) for name in view.outputs}


def _nullable(value: Any) -> Any:
    return None if value == "" or (isinstance(value, float) and math.isnan(value)) else value


def _optional(values: Floats, *, integer: bool) -> list[float | int | None]:
    kind = int if integer else float
    return [None if value != value else kind(value) for value in values.tolist()]  # noqa: PLR0124  NaN differs from itself


def _floats(view: OnDemandView, name: str, outputs: Mapping[str, Sequence[Any]], rows: int) -> Floats:
    where = f"on-demand feature view {view.name!r}: output {name!r}"
    if name not in outputs:
        raise Invalid(f"{where} is not returned")
    try:
        # A float64 array of a list turns None into NaN.
        values = np.array(outputs[name], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Invalid(f"{where} is no list of numbers: {error}") from error
    if values.shape != (rows,):
        raise Invalid(f"{where} has shape {values.shape}, not one value for each of {rows} rows")
    values[~np.isfinite(values)] = np.nan
    return values
