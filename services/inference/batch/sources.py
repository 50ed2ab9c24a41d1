"""Where the rows come from, slice by slice: built by the features service, or lying in files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.dataset as pads
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from services.chassis.errors import Invalid, NotFound
from services.inference.batch.feature_sets import FeatureSets
from services.inference.batch.order import InputFile, Range, is_remote
from services.inference.contract import ModelContract, check_schema

CHUNK_ROWS = 16_384
"""Rows in memory at a time."""
_SLICE_ROWS = 131_072
_DELTA, _PARQUET = "delta version ", "parquet "

Tell = Callable[[str], None]


class Source(Protocol):
    """`content` tells whether the rows are still those that a run began with; "": they are by their nature."""

    content: str

    @property
    def slices(self) -> int:
        """How many there are, at least one."""

    def check(self, contract: ModelContract) -> None:
        """Raises Invalid if the rows cannot be those of this model."""

    def read(self, number: int, tell: Tell) -> pa.RecordBatchReader:
        """The rows of a slice, CHUNK_ROWS at the most in a batch, in the same order each time."""


class RangeSource:
    """The rows of a past range. Each slice is cut at its own end: later events change nothing in it."""

    content = ""

    def __init__(self, rows: Range, sets: FeatureSets) -> None:
        self._slices = rows.slices
        self._sets = sets
        self._features: tuple[str, ...] = ()
        self._entity_id = ""

    @property
    def slices(self) -> int:
        """See Source."""
        return len(self._slices)

    def check(self, contract: ModelContract) -> None:
        """Raises Invalid unless the features service gives what the model was trained on."""
        check_schema(contract, self._sets.schema(contract.feature_service))
        self._features, self._entity_id = contract.features, contract.entity_id

    def read(self, number: int, tell: Tell) -> pa.RecordBatchReader:
        """See Source. Raises what FeatureSets raises."""
        begin, end = self._slices[number]
        built = self._sets.build(begin, end, tell)
        with _readable(built.uri, "batch prediction and the features service must share that folder"):
            reader = _reader(pads.dataset(built.uri, format="parquet"))
        if built.features != self._features or self._entity_id not in reader.schema.names:
            raise Invalid(
                f"the features service builds sets of {len(built.features)} features with {reader.schema.names[0]!r}, "
                f"the model was trained on {len(self._features)} of {self._entity_id!r}: another feature service"
            )
        return reader


class FileSource:
    """The rows of a Parquet file, a folder of them, or a version of a Delta table; a slice is some row groups."""

    def __init__(self, file: InputFile, content: str = "") -> None:
        """`content` is what an earlier run began with: a Delta table is opened as it was then.

        Raises NotFound, or Invalid if it cannot be read.
        """
        self._path = file.path
        with _readable(file.path, "expected Parquet files or a Delta table"):
            if is_delta_table(file.path):
                version = int(content.removeprefix(_DELTA)) if content.startswith(_DELTA) else None
                table = DeltaTable(file.path, version)
                self._dataset, self.content = table.to_pyarrow_dataset(), f"{_DELTA}{table.version()}"
            else:
                self._dataset, self.content = _parquet_files(file.path)
                _check_columns(self._dataset)
            self._slices = list(_slices(self._dataset))
        if not self._slices:
            raise Invalid(f"{file.path}: holds no Parquet file")

    @property
    def slices(self) -> int:
        """See Source."""
        return len(self._slices)

    def check(self, contract: ModelContract) -> None:
        """Its columns are looked at with the first slice."""

    def read(self, number: int, tell: Tell) -> pa.RecordBatchReader:
        """See Source."""
        tell(f"rows of {self._path} ({number + 1} of {len(self._slices)})")
        with _readable(self._path, "is it being written to?"):
            return _reader(self._slices[number], schema=self._dataset.schema)


def is_delta_table(path: str) -> bool:
    """Of a folder or URI. The library fails for what is a file."""
    return (is_remote(path) or not Path(path).is_file()) and DeltaTable.is_deltatable(path)


def _parquet_files(path: str) -> tuple[pads.Dataset, str]:
    """The files, and a digest of their names, sizes and times of writing."""
    if is_remote(path):
        raise Invalid(f"{path}: is no Delta table; Parquet files are read from this machine")
    dataset = pads.dataset(path, format="parquet")
    digest = hashlib.sha256()
    for file in sorted(dataset.files):
        stat = Path(file).stat()
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return dataset, f"{_PARQUET}{digest.hexdigest()}"


def _check_columns(dataset: pads.Dataset) -> None:
    """A file that lacks a column would be read as if it held nulls."""
    for fragment in dataset.get_fragments():
        if lacking := set(dataset.schema.names) - set(fragment.physical_schema.names):
            raise Invalid(f"{fragment.path}: lacks the column {min(lacking)!r}, which other files of the folder have")


def _slices(dataset: pads.Dataset) -> Iterator[pads.Fragment]:
    """Row groups of one file, together as many as make a slice."""
    for fragment in sorted(dataset.get_fragments(), key=lambda each: each.path):
        groups: list[int] = []
        rows = 0
        for group in fragment.row_groups:
            groups.append(group.id)
            rows += group.num_rows
            if rows >= _SLICE_ROWS:
                yield fragment.subset(row_group_ids=groups)
                groups, rows = [], 0
        if groups or not fragment.row_groups:
            yield fragment.subset(row_group_ids=groups)


def _reader(rows: Any, **options: Any) -> pa.RecordBatchReader:
    """In order, a batch at a time."""
    scanner = rows.scanner(batch_size=CHUNK_ROWS, batch_readahead=1, fragment_readahead=1, use_threads=False, **options)
    return scanner.to_reader()


@contextmanager
def _readable(path: str, hint: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{path}: does not exist; {hint}") from error
    except (OSError, pa.ArrowException, DeltaError) as error:
        raise Invalid(f"{path}: cannot be read: {error}; {hint}") from error
