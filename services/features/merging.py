"""Partial aggregates: rows of float64 that stand for some of an entity's events and can be merged in any grouping.

A row holds, one after the other and each only for the columns that need it: counts, sums, squared deviations from the
mean, least, greatest, and for `last` the value with its event time and availability (microseconds, exact in a float64).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.features.definitions import Aggregation, Function

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COUNT, SUM, SQUARES, LEAST, GREATEST, LAST = "count", "sum", "squares", "least", "greatest", "last"
NEEDS = {
    Function.COUNT: (COUNT,),
    Function.SUM: (COUNT, SUM),
    Function.MEAN: (COUNT, SUM),
    Function.STDDEV: (COUNT, SUM, SQUARES),
    Function.MIN: (LEAST,),
    Function.MAX: (GREATEST,),
    Function.LAST: (LAST,),
    Function.COUNT_DISTINCT: (),
}


class PartialLayout:
    """Where each part of each column lies in a row. `columns` are those of the entries that it is fed."""

    def __init__(self, columns: Sequence[str], aggregations: Iterable[Aggregation]) -> None:
        needed: dict[str, list[int]] = {part: [] for part in (COUNT, SUM, SQUARES, LEAST, GREATEST, LAST)}
        for aggregation in aggregations:
            for part in NEEDS[aggregation.function]:
                needed[part].append(columns.index(aggregation.column))
        self.columns = {part: sorted(set(found)) for part, found in needed.items()}
        self._columns = {part: np.array(found, np.intp) for part, found in self.columns.items()}
        sizes = [len(self.columns[part]) for part in (COUNT, SUM, SQUARES, LEAST, GREATEST, LAST, LAST, LAST)]
        ends = np.cumsum(sizes).tolist()
        blocks = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        self._count, self._sum, self._squares, self._least, self._greatest = blocks[:5]
        self._last_time, self._last_available, self._last = blocks[5:]
        self._additive = slice(0, self._sum.stop)
        self.width: int = ends[-1]
        self._squares_count = np.array([self.place(COUNT, column) for column in self.columns[SQUARES]], np.intp)
        self._squares_sum = np.array([self.place(SUM, column) for column in self.columns[SQUARES]], np.intp)
        self._nothing = np.zeros(self.width)
        self._nothing[self._least] = np.inf
        self._nothing[self._greatest.start :] = -np.inf

    def place(self, part: str, column: int) -> int:
        """The position in a row of a part of a column."""
        block = {
            COUNT: self._count,
            SUM: self._sum,
            SQUARES: self._squares,
            LEAST: self._least,
            GREATEST: self._greatest,
            LAST: self._last,
        }[part]
        start: int = block.start
        return start + self.columns[part].index(column)

    def of_entries(self, time_us: Ints, available_us: Ints, values: Floats) -> Floats:
        """A row for each entry. `values` [entries, columns], NaN is null."""
        rows = np.empty((len(values), self.width))
        filled = values == values  # noqa: PLR0124  only NaN differs from itself
        columns = self._columns
        rows[:, self._count] = filled[:, columns[COUNT]]
        if columns[SUM].size:
            rows[:, self._sum] = np.where(filled, values, 0.0)[:, columns[SUM]]
        rows[:, self._squares] = 0.0
        if columns[LEAST].size:
            rows[:, self._least] = np.where(filled, values, np.inf)[:, columns[LEAST]]
        if columns[GREATEST].size:
            rows[:, self._greatest] = np.where(filled, values, -np.inf)[:, columns[GREATEST]]
        if columns[LAST].size:
            filled, values = filled[:, columns[LAST]], values[:, columns[LAST]]
            rows[:, self._last_time] = np.where(filled, time_us[:, None], -np.inf)
            rows[:, self._last_available] = np.where(filled, available_us[:, None], -np.inf)
            rows[:, self._last] = np.where(filled, values, -np.inf)
        return rows

    def merge(self, rows: Floats, starts: Ints) -> Floats:
        """One row for each run of rows; run i begins at `starts[i]`, ends where the next begins and is not empty."""
        merged = np.empty((len(starts), self.width))
        if not len(starts):
            return merged
        merged[:, self._additive] = np.add.reduceat(rows[:, self._additive], starts, axis=0)
        if self._squares.stop > self._squares.start:
            merged[:, self._squares] = self._merge_squares(rows, merged, starts)
        if self._least.stop > self._least.start:
            merged[:, self._least] = np.minimum.reduceat(rows[:, self._least], starts, axis=0)
        if self._greatest.stop > self._greatest.start:
            merged[:, self._greatest] = np.maximum.reduceat(rows[:, self._greatest], starts, axis=0)
        if self._last.stop > self._last.start:
            self._merge_last(rows, merged, starts)
        return merged

    def merge_groups(self, rows: Floats, groups: Ints, number: int) -> Floats:
        """One row for each of `number` groups, also for those without rows. `groups` ascend."""
        sizes = np.bincount(groups, minlength=number)
        some = sizes > 0
        starts = (np.cumsum(sizes) - sizes)[some]
        if len(starts) == number:
            return self.merge(rows, starts)
        merged = np.tile(self._nothing, (number, 1))
        merged[some] = self.merge(rows, starts)
        return merged

    def _merge_squares(self, rows: Floats, merged: Floats, starts: Ints) -> Floats:
        """Chan, Golub, LeVeque 1979: within the parts, plus the parts' means around the common one."""
        counts, sums = rows[:, self._squares_count], rows[:, self._squares_sum]
        total_counts, total_sums = merged[:, self._squares_count], merged[:, self._squares_sum]
        means = sums / np.maximum(counts, 1.0)
        common = np.repeat(total_sums / np.maximum(total_counts, 1.0), _sizes(starts, len(rows)), axis=0)
        squares: Floats = np.add.reduceat(rows[:, self._squares] + counts * (means - common) ** 2, starts, axis=0)
        return squares

    def _merge_last(self, rows: Floats, merged: Floats, starts: Ints) -> None:
        """The greatest (event time, available at, value)."""
        sizes = _sizes(starts, len(rows))
        candidates: NDArray[np.bool_] | None = None
        for block in (self._last_time, self._last_available, self._last):
            part = rows[:, block]
            if candidates is not None:
                part = np.where(candidates, part, -np.inf)
            merged[:, block] = np.maximum.reduceat(part, starts, axis=0)
            if block is not self._last:
                best = part == np.repeat(merged[:, block], sizes, axis=0)
                candidates = best if candidates is None else candidates & best


def _sizes(starts: Ints, rows: int) -> Ints:
    sizes: Ints = np.diff(starts, append=rows)
    return sizes
