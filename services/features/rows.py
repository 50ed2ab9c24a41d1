"""What a GetVectors call asks for: its columns and moments, checked against the feature service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from services.chassis.clock import from_us, parse_rfc3339
from services.chassis.errors import Invalid
from services.features.definitions import Column, DataType, VectorPlan
from services.features.merging import Ints

_LISTS = {
    DataType.STRING: "strings",
    DataType.TIMESTAMP: "strings",
    DataType.INT64: "ints",
    DataType.DOUBLE: "doubles",
}
# What a datetime can hold: the years 1970 to 9999.
_MOMENTS_US = range(253_402_300_800_000_000)


@dataclass(frozen=True, slots=True)
class Given:
    """A column as it came: a list for each kind, of which one should be filled."""

    name: str
    lists: Mapping[str, Sequence[Any]]
    """By "strings", "ints", "doubles"."""


@dataclass(frozen=True, slots=True)
class Rows:
    """`columns` has a list for each join key and request field: str, int, float, aware UTC datetime; None for null."""

    columns: Mapping[str, list[Any]]
    as_of_us: Ints

    @property
    def as_of(self) -> list[datetime]:
        """The moments, aware UTC."""
        return [from_us(moment) for moment in self.as_of_us.tolist()]


def check_rows(plan: VectorPlan, given: Sequence[Given], as_of_us: Sequence[int], now_us: int, max_rows: int) -> Rows:
    """`as_of_us` empty: now, for each row. Raises Invalid, naming the column and what is wrong with it."""
    by_name = {each.name: each for each in given}
    if len(by_name) < len(given):
        raise Invalid("columns: a name is given twice")
    wanted = [column.name for column in plan.columns]
    if unknown := sorted(by_name.keys() - set(wanted)):
        raise Invalid(f"columns: {plan.name!r} has no {unknown[0]!r}; it takes {', '.join(wanted)}")
    if missing := [name for name in wanted if name not in by_name]:
        raise Invalid(f"columns: {missing[0]!r} is missing; {plan.name!r} takes {', '.join(wanted)}")
    columns = {column.name: _values(column, by_name[column.name]) for column in plan.columns}
    number = len(columns[wanted[0]])
    for name, values in columns.items():
        if len(values) != number:
            raise Invalid(f"columns: {name!r} has {len(values)} values, {wanted[0]!r} has {number}")
    if not 0 < number <= max_rows:
        raise Invalid(f"columns: {number} rows; a call has 1 to {max_rows}")
    return Rows(columns, _moments(as_of_us, number, now_us))


def _values(column: Column, given: Given) -> list[Any]:
    kind = _LISTS[column.data_type]
    if wrong := [name for name, values in given.lists.items() if values and name != kind]:
        raise Invalid(f"columns: {column.name!r} is {column.data_type}: give it in {kind}, not in {wrong[0]}")
    values = list(given.lists[kind])
    if column.data_type is DataType.TIMESTAMP:
        return [_timestamp(column.name, text) for text in values]
    return [None if value == "" else value for value in values]


def _timestamp(name: str, text: str) -> datetime | None:
    try:
        return parse_rfc3339(text) if text else None
    except ValueError as error:
        raise Invalid(f"columns: {name!r}: {text!r} is no RFC 3339 instant: {error}") from error


def _moments(as_of_us: Sequence[int], number: int, now_us: int) -> Ints:
    if not as_of_us:
        return np.full(number, now_us, np.int64)
    if len(as_of_us) != number:
        raise Invalid(f"as_of_us: {len(as_of_us)} moments for {number} rows")
    if outside := [moment for moment in (min(as_of_us), max(as_of_us)) if moment not in _MOMENTS_US]:
        raise Invalid(f"as_of_us: {outside[0]} is no moment of 1970 to 9999 in microseconds")
    return np.array(as_of_us, np.int64)
