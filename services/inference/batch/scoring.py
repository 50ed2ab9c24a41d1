"""A batch of rows to its scores: the vector out of its columns, the model, and the columns that go along."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.chassis.errors import Conflict, Invalid
from services.inference.loaded_model import INPUT, OUTPUT, LoadedModel

MISSING, VERSION = "missing_features", "model_version"
_ADDED = pa.schema([(OUTPUT, pa.float32()), (MISSING, pa.int32()), (VERSION, pa.string())])


class BatchScorer:
    """Of rows of one schema: a column for each feature by name, or one column `features` with the whole vector.

    Every other column goes along. `schema` is what comes out: they, then `probability`, how many features were missing
    (NaN or null), and the version.
    """

    def __init__(self, model: LoadedModel, rows: pa.Schema) -> None:
        """Raises Invalid, naming the column, if the rows are none of this model."""
        self._model = model
        self._features = model.contract.features
        self._whole = INPUT in rows.names
        vector = {INPUT} if self._whole else set(self._features)
        if missing := [name for name in self._features if name not in rows.names and not self._whole]:
            raise Invalid(
                f"rows: lack the features {', '.join(missing)}; expected a column for each of the "
                f"{len(self._features)}, or one column {INPUT!r} with lists of that many numbers"
            )
        for name in vector:
            _check_type(name, rows.field(name).type, whole=self._whole)
        self._carried = [name for name in rows.names if name not in vector]
        if taken := [name for name in self._carried if name in _ADDED.names]:
            raise Invalid(f"rows: the column {taken[0]!r} would be overwritten by the score; rename it")
        self.schema = pa.schema([*(rows.field(name) for name in self._carried), *_ADDED])

    def score(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Raises Invalid if a vector has another width, Conflict if the model gives no probability for a row."""
        vectors = self._whole_vectors(batch[INPUT]) if self._whole else self._by_name(batch)
        probabilities = self._model.probabilities(vectors) if batch.num_rows else np.empty(0, np.float32)
        added = [
            pa.array(probabilities),
            pa.array(np.isnan(vectors).sum(axis=1, dtype=np.int32)),
            pa.array([self._model.version] * batch.num_rows, pa.string()),
        ]
        return pa.RecordBatch.from_arrays([*(batch[name] for name in self._carried), *added], schema=self.schema)

    def _by_name(self, batch: pa.RecordBatch) -> NDArray[np.float32]:
        vectors = np.empty((batch.num_rows, len(self._features)), np.float32)
        for place, name in enumerate(self._features):
            vectors[:, place] = _floats(batch[name])
        return vectors

    def _whole_vectors(self, lists: pa.Array) -> NDArray[np.float32]:
        widths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy()
        wrong = np.flatnonzero(widths != len(self._features))
        if wrong.size:
            given = "null" if widths[wrong[0]] < 0 else f"{widths[wrong[0]]} numbers"
            raise Invalid(f"rows: {INPUT!r} of row {wrong[0]}: expected {len(self._features)} numbers, got {given}")
        return _floats(lists.flatten()).reshape(len(lists), -1)


def score_part(scorer: BatchScorer, batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """The scores of a batch whose first row is number `first` of its slice, which errors tell."""
    where = f"rows from {first} of the slice"
    try:
        return scorer.score(batch)
    except Conflict as error:
        raise Conflict(f"{where}: {error}") from error
    except Invalid as error:
        raise Invalid(f"{where}: {error}") from error


def _check_type(name: str, kind: pa.DataType, *, whole: bool) -> None:
    inner = kind
    if whole:
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise Invalid(f"rows: {name!r} is {kind}, expected lists of numbers")
        inner = kind.value_type
    numbers = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    if not any(is_number(inner) for is_number in numbers):
        raise Invalid(f"rows: {name!r} is {kind}, expected {'lists of ' if whole else ''}numbers")


def _floats(column: pa.Array) -> NDArray[np.float32]:
    """Null becomes NaN. As serving: by way of float64, and what is too large becomes infinite."""
    wide = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        narrow: NDArray[np.float32] = wide.astype(np.float32)
    return narrow
