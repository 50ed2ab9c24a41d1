"""A training set in memory, in the order of its prediction moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from services.chassis.errors import Invalid

AS_OF, LABEL = "as_of", "label"


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What the features service says that it built."""

    uri: str
    digest: str
    rows: int
    unlabelled_rows: int
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """`values` float32 [N, F] with NaN for none, `labels` float32 [N], `as_of_us` int64 [N]."""

    features: tuple[str, ...]
    values: NDArray[np.float32]
    labels: NDArray[np.float32]
    as_of_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: slice) -> Dataset:
        """Some of its rows."""
        return Dataset(self.features, self.values[rows], self.labels[rows], self.as_of_us[rows])

    def columns(self, names: Sequence[str]) -> NDArray[np.float32] | None:
        """float32 [N, len(names)]; None if one of them is not a feature of the set."""
        if not set(names) <= set(self.features):
            return None
        return np.ascontiguousarray(self.values[:, [self.features.index(name) for name in names]])


def read_dataset(told: TrainingSet) -> Dataset:
    """Reads its Parquet file. Raises Invalid if the file cannot be read or lacks a column."""
    try:
        table = pq.read_table(told.uri)
    except (OSError, pa.ArrowInvalid) as error:
        raise Invalid(
            f"training set {told.uri} cannot be read: {error}; training and features must share that folder"
        ) from error
    missing = [name for name in (AS_OF, LABEL, *told.features) if name not in table.column_names]
    if missing:
        raise Invalid(f"training set {told.uri} lacks the columns {', '.join(missing)}")
    values = np.empty((table.num_rows, len(told.features)), np.float32)
    for position, name in enumerate(told.features):
        values[:, position] = _floats(table, name)
    as_of = table[AS_OF].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return Dataset(told.features, values, _floats(table, LABEL), as_of.to_numpy())


def _floats(table: pa.Table, name: str) -> NDArray[np.float32]:
    """Null becomes NaN."""
    floats: NDArray[np.float32] = table[name].cast(pa.float32()).to_numpy()
    return floats
