"""What a run is asked for: a version, the rows, and where the scores go."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from services.chassis.clock import rfc3339
from services.chassis.errors import Invalid

_SLICE = timedelta(days=7)
_MOST_SLICES = 100_000


@dataclass(frozen=True, slots=True)
class Range:
    """The rows whose prediction moment lies in [since, until), built and scored `slice` by `slice`."""

    since: datetime
    until: datetime
    slice: timedelta

    @property
    def slices(self) -> list[tuple[datetime, datetime]]:
        """Each [begin, end), in order."""
        count = -(-(self.until - self.since) // self.slice)
        begins = [self.since + number * self.slice for number in range(count)]
        return list(zip(begins, [*begins[1:], self.until], strict=True))

    @property
    def told(self) -> dict[str, str]:
        """For the plan. The slices belong to it: sums of floats depend on what they are built of."""
        return {"from": rfc3339(self.since), "to": rfc3339(self.until), "slice_s": f"{self.slice.total_seconds():g}"}


@dataclass(frozen=True, slots=True)
class InputFile:
    """A Parquet file, a folder of them, or a Delta table. `path` may be a Delta table's URI."""

    path: str

    @property
    def told(self) -> dict[str, str]:
        """For the plan."""
        return {"in": self.path}


@dataclass(frozen=True, slots=True)
class Order:
    """`model` is an alias or the number of a version; the folder `work` holds what is scored until all is."""

    model: str
    rows: Range | InputFile
    out: str
    work: Path
    overwrite: bool = False

    @property
    def told(self) -> Mapping[str, str]:
        """What it asks for, in words that the next run can compare."""
        return {"model": self.model, **self.rows.told}


def range_order(
    since: datetime,
    until: datetime,
    slice_: timedelta | None = None,
    *,
    model: str,
    out: str,
    work: Path | None = None,
    overwrite: bool = False,
) -> Order:
    """Of the rows of a past range. Raises Invalid, naming the option."""
    if since >= until:
        raise Invalid(f"--to: {rfc3339(until)} does not lie after --from {rfc3339(since)}")
    length = slice_ or _SLICE
    if (until - since) / length > _MOST_SLICES:
        raise Invalid(f"--slice: {length} cuts the range into more than {_MOST_SLICES} pieces")
    return Order(model, Range(since, until, length), out, _work(out, work), overwrite)


def file_order(rows: str, *, model: str, out: str, work: Path | None = None, overwrite: bool = False) -> Order:
    """Of the rows of a file. Raises Invalid, naming the option."""
    path = rows if is_remote(rows) else str(Path(rows).resolve())
    return Order(model, InputFile(path), out, _work(out, work), overwrite)


def is_remote(path: str) -> bool:
    """An object store's URI, not a path of this machine."""
    return "://" in path


def _work(out: str, work: Path | None) -> Path:
    if work is not None:
        # A folder of its own in it: it is taken away at the end, and several runs may share the one that was given.
        return work / f".{Path(out).name}.{hashlib.sha256(out.encode()).hexdigest()[:8]}.scored"
    if is_remote(out):
        raise Invalid(f"--work: must be given, since --out {out} is not on this machine")
    path = Path(out).resolve()
    return path.with_name(f".{path.name}.scored")
