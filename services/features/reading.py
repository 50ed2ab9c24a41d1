"""A view's values and their statuses as of a moment, for many rows at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.chassis.clock import from_us, rfc3339
from services.chassis.errors import OutOfRange
from services.contracts.features.v1 import features_pb2
from services.features.definitions import Aggregation, Function
from services.features.merging import COUNT, GREATEST, LAST, LEAST, SQUARES, SUM, Floats, Ints
from services.features.state import Records, StateLayout, States, Table
from services.features.windows import window_start

PRESENT = features_pb2.FEATURE_STATUS_PRESENT
MISSING = features_pb2.FEATURE_STATUS_MISSING
STALE = features_pb2.FEATURE_STATUS_STALE

Statuses = NDArray[np.uint8]
_PARTS = {
    Function.COUNT: (COUNT,),
    Function.SUM: (COUNT, SUM),
    Function.MEAN: (COUNT, SUM),
    Function.STDDEV: (COUNT, SQUARES),
    Function.MIN: (LEAST,),
    Function.MAX: (GREATEST,),
    Function.LAST: (LAST,),
}


@dataclass(frozen=True, slots=True)
class Answers:
    """`values` [rows, aggregations] float64, NaN for none; `statuses` likewise; `newest_us` event time for each row."""

    values: Floats
    statuses: Statuses
    newest_us: Ints


@dataclass(frozen=True, slots=True)
class _Window:
    window_us: int
    slide_us: int


@dataclass(frozen=True, slots=True)
class _Finish:
    """Aggregations of one function: their numbers, windows, and the place of each part in a partial row."""

    function: Function
    aggregations: Ints
    windows: Ints
    places: tuple[Ints, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is read: entries that were available by the moments of their rows (`owner`), and where the windows start.

    `starts` has an array [rows] for each window.
    """

    states: States
    rows: Ints
    entries: Records
    owner: Ints
    starts: list[Ints]


class ViewReader:
    """Knows how to read the states of a view."""

    def __init__(self, layout: StateLayout) -> None:
        self.layout = layout
        aggregations = layout.view.aggregations
        self._windows = list(dict.fromkeys(_Window(each.window_us, each.slide_us) for each in aggregations))
        functions = dict.fromkeys(each.function for each in aggregations)
        self._finish = [self._finish_of(each) for each in functions if each is not Function.COUNT_DISTINCT]
        self._counted_distinct = [n for n, each in enumerate(aggregations) if each.function is Function.COUNT_DISTINCT]
        self._ttl_us = layout.view.ttl_us

    def read(self, states: States, rows: Ints, as_of_us: Ints) -> Answers:
        """Row i is the state number `rows[i]` as of `as_of_us[i]`. Raises OutOfRange before a state's mark."""
        if len(rows) and (states.mark_us[rows] > as_of_us).any():
            raise too_far_back(int(as_of_us.min()), int(states.mark_us[rows].max()))
        entries, owner = _expand(states.entries, rows)
        known = entries["available"] <= as_of_us[owner]
        if not known.all():
            entries, owner = entries[known], owner[known]
        newest = states.newest_tiled_us[rows]
        np.maximum.at(newest, owner, entries["time"])
        values = self._values(_Known(states, rows, entries, owner, self._starts(as_of_us)))
        values[states.first_available_us[rows] > as_of_us] = np.nan
        statuses = np.full(values.shape, PRESENT, np.uint8)
        if self._ttl_us:
            statuses[as_of_us - newest > self._ttl_us] = STALE
        statuses[np.isnan(values)] = MISSING
        return Answers(values, statuses, newest)

    def _starts(self, as_of_us: Ints) -> list[Ints]:
        return [window_start(as_of_us, each.window_us, each.slide_us) for each in self._windows]

    def _values(self, known: _Known) -> Floats:
        merged = self._merged(known)
        values = np.empty((len(known.rows), len(self.layout.view.aggregations)))
        with np.errstate(divide="ignore", invalid="ignore"):
            for finish in self._finish:
                parts = [merged[finish.windows, :, place] for place in finish.places]
                values[:, finish.aggregations] = _finished(finish.function, parts).T
        for position in self._counted_distinct:
            values[:, position] = self._distinct(self.layout.view.aggregations[position], known)
        return values

    def _merged(self, known: _Known) -> Floats:
        """[windows, rows, parts]"""
        partials, number, windows = self.layout.partials, len(known.rows), len(self._windows)
        entries = known.entries
        rows_of_entries = partials.of_entries(entries["time"], entries["available"], self.layout.read_values(entries))
        found, groups = [], []
        for window, start in enumerate(known.starts):
            inside = np.flatnonzero(entries["time"] >= start[known.owner])
            found.append(rows_of_entries[inside])
            groups.append(known.owner[inside] + window * number)
        for slide, table in zip(self.layout.slides, known.states.tiles, strict=True):
            if not len(table.records):
                continue
            tiles, owner = _expand(table, known.rows)
            for window in (n for n, each in enumerate(self._windows) if each.slide_us == slide.slide_us):
                inside = np.flatnonzero(tiles["start"] >= known.starts[window][owner])
                found.append(tiles["parts"][inside])
                groups.append(owner[inside] + window * number)
        parts, group = np.concatenate(found), np.concatenate(groups)
        if len(found) > windows:
            order = np.argsort(group, kind="stable")
            parts, group = parts[order], group[order]
        return partials.merge_groups(parts, group, windows * number).reshape(windows, number, -1)

    def _distinct(self, aggregation: Aggregation, known: _Known) -> Ints:
        column = self.layout.read_columns.index(aggregation.column)
        start = known.starts[self._windows.index(_Window(aggregation.window_us, aggregation.slide_us))]
        values = self.layout.read_values(known.entries)[:, column]
        inside = (known.entries["time"] >= start[known.owner]) & ~np.isnan(values)
        slide = [each.slide_us for each in self.layout.slides].index(aggregation.slide_us)
        tiled, owner = _expand(known.states.distinct[slide], known.rows)
        tiled_inside = (tiled["start"] >= start[owner]) & (tiled["column"] == column)
        return _count_distinct(
            np.concatenate((values[inside], tiled["value"][tiled_inside])),
            np.concatenate((known.owner[inside], owner[tiled_inside])),
            len(known.rows),
        )

    def _finish_of(self, function: Function) -> _Finish:
        layout = self.layout
        mine = [(n, each) for n, each in enumerate(layout.view.aggregations) if each.function is function]
        columns = [layout.read_columns.index(each.column) for _, each in mine]
        return _Finish(
            function,
            np.array([number for number, _ in mine]),
            np.array([self._windows.index(_Window(each.window_us, each.slide_us)) for _, each in mine]),
            tuple(np.array([layout.partials.place(part, column) for column in columns]) for part in _PARTS[function]),
        )


def too_far_back(as_of_us: int, earliest_us: int) -> OutOfRange:
    """The error for a moment that the online state does not reach back to."""
    return OutOfRange(
        f"as_of_us: {rfc3339(from_us(as_of_us))} lies before {rfc3339(from_us(earliest_us))}, "
        "how far back the online state can be read; a training set reaches further"
    )


def _expand(table: Table, rows: Ints) -> tuple[Records, Ints]:
    """The records of the state of each row, row after row, and the row of each."""
    sizes = table.sizes[rows]
    owner = np.repeat(np.arange(len(rows)), sizes)
    if len(rows) == len(table.sizes) and np.array_equal(rows, np.arange(len(rows))):
        return table.records, owner
    shift = np.cumsum(table.sizes)[rows] - np.cumsum(sizes)
    return table.records[np.arange(len(owner)) + shift[owner]], owner


def _finished(function: Function, parts: list[Floats]) -> Floats:
    """The values, NaN for none; invalid divisions give NaN too."""
    if function is Function.COUNT:
        return parts[0]
    if function is Function.SUM:
        return np.where(parts[0] > 0, parts[1], np.nan)
    if function is Function.MEAN:
        return parts[1] / parts[0]
    if function is Function.STDDEV:
        count, squares = parts
        return np.where(count > 1, np.sqrt(squares / (count - 1)), np.nan)
    return np.where(np.isinf(parts[0]), np.nan, parts[0])


def _count_distinct(values: Floats, owner: Ints, number: int) -> Ints:
    order = np.lexsort((values, owner))
    values, owner = values[order], owner[order]
    first = np.ones(len(values), np.bool_)
    first[1:] = (values[1:] != values[:-1]) | (owner[1:] != owner[:-1])
    return np.bincount(owner[first], minlength=number)
