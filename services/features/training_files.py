"""Training sets as files: named by what is in them, there whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_SCRATCH, _PART = ".building-", ".part"
# Builds take minutes. Several processes may share the folder, and none may take another's.
_ABANDONED_AFTER = timedelta(hours=1)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for what one build spills."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
        yield Path(scratch)


def remove_abandoned(folder: Path, now: datetime) -> None:
    """What killed processes left of their builds: scratch folders and parts that nobody has written to for an hour."""
    for path in [*folder.glob(f"{_SCRATCH}*"), *folder.glob(f".*{_PART}")]:
        if now.timestamp() - _last_written(path) > _ABANDONED_AFTER.total_seconds():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def write_training_set(table: pa.Table, folder: Path, origin: Mapping[str, str]) -> tuple[str, Path]:
    """The digest of the rows, and the Parquet file that holds them; written unless it is there already.

    `origin` goes into the file's metadata, under `slipway.*`, and not into the digest.
    """
    digest = digest_of(table)
    path = folder / f"{digest}.parquet"
    if not path.exists():
        part = folder / f".{digest}.{uuid.uuid4().hex}{_PART}"
        metadata = {f"slipway.{name}": value for name, value in {**origin, "digest": digest}.items()}
        try:
            pq.write_table(table.replace_schema_metadata(metadata), part, compression="zstd")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return digest, path


def digest_of(table: pa.Table) -> str:
    """SHA-256, in hex, over the columns one after the other: name, type, which rows are null, the values.

    It depends on the rows and their order alone, not on how Arrow or Parquet happens to hold them.
    """
    sha = hashlib.sha256()
    for name in table.column_names:
        column = table[name].combine_chunks()
        sha.update(f"{name}\0{column.type}\0{len(column)}\0".encode())
        sha.update(np.packbits(column.is_null().to_numpy(zero_copy_only=False)).tobytes())
        for piece in _values(column):
            sha.update(piece)
    return sha.hexdigest()


def _last_written(path: Path) -> float:
    """Unix seconds: of the newest thing in it."""
    newest = 0.0
    for each in (path, *path.rglob("*")):
        # Its owner may be taking it away.
        with suppress(FileNotFoundError):
            newest = max(newest, each.stat().st_mtime)
    return newest


def _values(column: pa.Array) -> Iterator[bytes]:
    """Little-endian values, 0 for null; of texts their lengths, then their UTF-8."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.cast(pa.large_string()).fill_null("")
        yield pc.binary_length(texts).to_numpy(zero_copy_only=False).astype("<i8").tobytes()
        yield "".join(texts.to_pylist()).encode()
    else:
        kind = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        values = kind.fill_null(False if pa.types.is_boolean(column.type) else 0).to_numpy(zero_copy_only=False)
        yield values.astype(values.dtype.newbyteorder("<")).tobytes()
