"""Where the scores go, whole or not at all: a Parquet file, or one commit to a Delta table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from services.chassis.errors import AlreadyExists, Unavailable
from services.inference.batch.order import is_remote
from services.inference.batch.sources import is_delta_table
from services.inference.batch.work import Plan, settle

_SUFFIX = ".parquet"
_RUN = b"slipway.run"
_ROW_GROUP = 131_072
_GENERATION = "slipway.batch.generation"


class Output(Protocol):
    """One place, for one run."""

    def holds(self, plan: Plan) -> bool:
        """Has a run of this plan written it?"""

    def check_free(self) -> None:
        """Raises AlreadyExists if something else is there that would be lost."""

    def write(self, plan: Plan, parts: Sequence[Path], *, overwrite: bool) -> None:
        """All rows of the parts, in order, in one step. `overwrite`: instead of what is there."""


def output_at(path: str) -> Output:
    """A path that ends in `.parquet` is a file, any other a Delta table."""
    if path.endswith(_SUFFIX) and not is_remote(path):
        return ParquetOutput(Path(path))
    return DeltaOutput(path)


class ParquetOutput:
    """One file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def holds(self, plan: Plan) -> bool:
        """See Output."""
        try:
            metadata = pq.read_schema(self._path).metadata
        except (OSError, pa.ArrowException):
            return False
        return (metadata or {}).get(_RUN) == plan.id.encode()

    def check_free(self) -> None:
        """See Output."""
        if self._path.exists():
            raise AlreadyExists(f"--out: {self._path} is there already, of another run; --overwrite replaces it")

    def write(self, plan: Plan, parts: Sequence[Path], *, overwrite: bool) -> None:  # noqa: ARG002  checked before
        """See Output. The same plan gives the same bytes."""
        schema = pq.read_schema(parts[0]).with_metadata(_metadata(plan))
        unfinished = self._path.with_name(f".{self._path.name}.part")
        with _stored(str(self._path)):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
                for batch in _batches(parts, schema):
                    writer.write_batch(batch)
            settle(unfinished, self._path)


class DeltaOutput:
    """A table: rows are appended in one commit, which carries the run as a Delta transaction.

    The transaction's version is the table's generation, which each overwriting raises: what was written before is gone.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def holds(self, plan: Plan) -> bool:
        """See Output."""
        with _stored(self._uri):
            if not self._exists():
                return False
            table = DeltaTable(self._uri)
            return table.transaction_version(plan.id) == (table.transaction_version(_GENERATION) or 0)

    def check_free(self) -> None:
        """A table takes more rows; what is none does not become one."""
        path = Path(self._uri)
        if not is_remote(self._uri) and not self._exists() and (path.is_file() or any(path.glob("*"))):
            raise AlreadyExists(f"--out: {self._uri} is there already and is no Delta table")

    def write(self, plan: Plan, parts: Sequence[Path], *, overwrite: bool) -> None:
        """See Output."""
        schema = pq.read_schema(parts[0])
        metadata = {name.decode(): value.decode() for name, value in _metadata(plan).items()}
        with _stored(self._uri):
            before = DeltaTable(self._uri).transaction_version(_GENERATION) if self._exists() else None
            generation = (before or 0) + overwrite
            write_deltalake(
                self._uri,
                pa.RecordBatchReader.from_batches(schema, _batches(parts, schema)),
                mode="overwrite" if overwrite else "append",
                schema_mode="overwrite" if overwrite else None,
                writer_properties=WriterProperties(compression="ZSTD"),
                commit_properties=CommitProperties(
                    custom_metadata=metadata,
                    app_transactions=[Transaction(plan.id, generation), Transaction(_GENERATION, generation)],
                ),
            )

    def _exists(self) -> bool:
        return is_delta_table(self._uri)


def _metadata(plan: Plan) -> dict[bytes, bytes]:
    told = {
        _RUN: plan.id,
        b"slipway.model": plan.model,
        b"slipway.model_version": plan.version,
        b"slipway.onnx_sha256": plan.onnx_sha256,
        **{f"slipway.{name}".encode(): value for name, value in plan.told.items() if name != "model"},
    }
    return {name: value.encode() for name, value in told.items()}


def _batches(parts: Sequence[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for path in parts:
        with pq.ParquetFile(path) as part:
            for batch in part.iter_batches(_ROW_GROUP, use_threads=False):
                yield batch.cast(schema)


@contextmanager
def _stored(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, DeltaError, pa.ArrowException) as error:
        raise Unavailable(f"--out: {where} cannot be written: {error}") from error
