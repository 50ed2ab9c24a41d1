"""Partial aggregates: rows of float64 that stand for some of an entity's events and can be merged in any grouping.

A row holds the parts below one after the other, each only for the columns that need it. Times are microseconds, which
a float64 holds exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.features.definitions import Aggregation, Function

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Squares are of the deviations from the mean; LAST is the value with the greatest event time, availability and value.
COUNT, SUM, SQUARES, LEAST, GREATEST = "count", "sum", "squares", "least", "greatest"
LAST_TIME, LAST_AVAILABLE, LAST = "last_time", "last_available", "last"
PARTS = (COUNT, SUM, SQUARES, LEAST, GREATEST, LAST_TIME, LAST_AVAILABLE, LAST)
NEEDS: dict[Function, tuple[str, ...]] = {
    Function.COUNT: (COUNT,),
    Function.SUM: (COUNT, SUM),
    Function.MEAN: (COUNT, SUM),
    Function.STDDEV: (COUNT, SUM, SQUARES),
    Function.MIN: (LEAST,),
    Function.MAX: (GREATEST,),
    Function.LAST: (LAST_TIME, LAST_AVAILABLE, LAST),
    Function.COUNT_DISTINCT: (),
}
_OF_NOTHING = {LEAST: np.inf, GREATEST: -np.inf, LAST_TIME: -np.inf, LAST_AVAILABLE: -np.inf, LAST: -np.inf}


class PartialLayout:
    """Where each part of each column lies in a row. `columns` are those of the values that it is fed."""

    def __init__(self, columns: Sequence[str], aggregations: Iterable[Aggregation]) -> None:
        needed = {(part, columns.index(each.column)) for each in aggregations for part in NEEDS[each.function]}
        self.parts = sorted(needed, key=lambda each: (PARTS.index(each[0]), each[1]))
        """(part, number of the column), in the order of a row."""
        self.width = len(self.parts)
        self.nothing = np.array([_OF_NOTHING.get(part, 0.0) for part, _ in self.parts])
        """The row that stands for no event."""
        self._columns = {part: np.array([c for p, c in self.parts if p == part], np.intp) for part in PARTS}
        self._blocks = {part: self._block(part) for part in PARTS}
        self._additive = slice(0, self._blocks[SUM].stop)
        self._squares_count = np.array([self.place(COUNT, column) for column in self._columns[SQUARES]], np.intp)
        self._squares_sum = np.array([self.place(SUM, column) for column in self._columns[SQUARES]], np.intp)

    def place(self, part: str, column: int) -> int:
        """The position in a row of a part of a column."""
        return self.parts.index((part, column))

    def of_values(self, time_us: Ints, available_us: Ints, values: Floats) -> Floats:
        """A row for each event. `values` [events, columns], NaN is null."""
        rows = np.empty((len(values), self.width))
        null = np.isnan(values)
        alone: dict[str, Any] = {
            COUNT: 1.0,
            SUM: values,
            SQUARES: 0.0,
            LEAST: values,
            GREATEST: values,
            LAST_TIME: time_us[:, None],
            LAST_AVAILABLE: available_us[:, None],
            LAST: values,
        }
        for part, columns in self._columns.items():
            if columns.size:
                of_part = np.where(null, _OF_NOTHING.get(part, 0.0), alone[part])
                rows[:, self._blocks[part]] = of_part[:, columns]
        return rows

    def merge(self, rows: Floats, starts: Ints) -> Floats:
        """One row for each run of rows; run i begins at `starts[i]`, ends where the next begins and is not empty."""
        merged = np.empty((len(starts), self.width))
        if not len(starts):
            return merged
        merged[:, self._additive] = np.add.reduceat(rows[:, self._additive], starts, axis=0)
        if self._columns[SQUARES].size:
            merged[:, self._blocks[SQUARES]] = self._merge_squares(rows, merged, starts)
        for part, least_or_greatest in ((LEAST, np.minimum), (GREATEST, np.maximum)):
            if self._columns[part].size:
                block = self._blocks[part]
                merged[:, block] = least_or_greatest.reduceat(rows[:, block], starts, axis=0)
        if self._columns[LAST].size:
            self._merge_last(rows, merged, starts)
        return merged

    def _block(self, part: str) -> slice:
        start = sum(len(self._columns[before]) for before in PARTS[: PARTS.index(part)])
        return slice(start, start + len(self._columns[part]))

    def _merge_squares(self, rows: Floats, merged: Floats, starts: Ints) -> Floats:
        """Chan, Golub, LeVeque 1979: within the parts, plus the parts' means around the common one."""
        counts, sums = rows[:, self._squares_count], rows[:, self._squares_sum]
        total_counts, total_sums = merged[:, self._squares_count], merged[:, self._squares_sum]
        means = sums / np.maximum(counts, 1.0)
        common = _spread(total_sums / np.maximum(total_counts, 1.0), starts, len(rows))
        within = rows[:, self._blocks[SQUARES]]
        squares: Floats = np.add.reduceat(within + counts * (means - common) ** 2, starts, axis=0)
        return squares

    def _merge_last(self, rows: Floats, merged: Floats, starts: Ints) -> None:
        """Of the rows with the greatest time those with the greatest availability, of these the greatest value."""
        times, available, last = (self._blocks[part] for part in (LAST_TIME, LAST_AVAILABLE, LAST))
        merged[:, times] = np.maximum.reduceat(rows[:, times], starts, axis=0)
        best = rows[:, times] == _spread(merged[:, times], starts, len(rows))
        tied = np.where(best, rows[:, available], -np.inf)
        merged[:, available] = np.maximum.reduceat(tied, starts, axis=0)
        best &= tied == _spread(merged[:, available], starts, len(rows))
        merged[:, last] = np.maximum.reduceat(np.where(best, rows[:, last], -np.inf), starts, axis=0)


def run_starts(*keys: NDArray[np.generic]) -> Ints:
    """Where the runs of equal keys begin, of sorted keys."""
    changes = np.zeros(len(keys[0]), np.bool_)
    changes[:1] = True
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return changes.nonzero()[0]


def _spread(merged: Floats, starts: Ints, rows: int) -> Floats:
    """What belongs to a run, for each of its rows."""
    spread: Floats = merged.repeat(np.diff(starts, append=rows), axis=0)
    return spread
