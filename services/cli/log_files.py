"""The processes' log files: their last lines, and new ones as they are written, also across a rotation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from deploy.local.processes import Platform, processes

_LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a process. `record` is its content if it was a JSON object, else empty."""

    process: str
    text: str
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def timestamp(self) -> str:
        """RFC 3339 in UTC, "" if the line tells none."""
        return str(self.record.get("timestamp", ""))


class LogFiles:
    """Of some processes of a platform."""

    def __init__(self, paths: dict[str, Path], *, from_end: bool = False) -> None:
        self._files = [_Followed(process, path, from_end=from_end) for process, path in paths.items()]

    @classmethod
    def of(cls, platform: Platform, names: Sequence[str] = (), *, from_end: bool = False) -> LogFiles:
        """Of the named processes, else of all."""
        known = [process.name for process in processes(platform)]
        return cls({name: platform.home.logs / f"{name}.log" for name in names or known}, from_end=from_end)

    def last(self, count: int) -> list[Line]:
        """The last lines of each, in the order of their timestamps."""
        return _in_order(line for file in self._files for line in file.new()[-count:])

    def new(self) -> list[Line]:
        """What was written since the last call, in the order of their timestamps."""
        return _in_order(line for file in self._files for line in file.new())


class _Followed:
    def __init__(self, process: str, path: Path, *, from_end: bool) -> None:
        self._process = process
        self._path = path
        self._file: IO[bytes] | None = None
        self._begun = b""
        if from_end and path.exists():
            self._file = path.open("rb")
            self._file.seek(0, 2)

    def new(self) -> list[Line]:
        """The whole lines that were added. A rotated file is read to its end first."""
        content = self._begun + self._read()
        if self._was_rotated():
            self._file = None
            content += self._read()
        *whole, self._begun = content.split(b"\n")
        if len(self._begun) > _LONGEST_LINE:
            whole, self._begun = [*whole, self._begun], b""
        return [_line(self._process, each) for each in whole if each.strip()]

    def _read(self) -> bytes:
        if self._file is None and self._path.exists():
            self._file = self._path.open("rb")
        return self._file.read() if self._file else b""

    def _was_rotated(self) -> bool:
        if self._file is None or not self._path.exists():
            return False
        return self._path.stat().st_ino != _inode(self._file)


def _inode(file: IO[bytes]) -> int:
    return Path(f"/proc/self/fd/{file.fileno()}").stat().st_ino


def _line(process: str, raw: bytes) -> Line:
    text = raw.decode(errors="replace").rstrip()
    try:
        record = json.loads(text) if text.startswith("{") else {}
    except ValueError:
        record = {}
    return Line(process, text, record)


def _in_order(lines: Iterable[Line]) -> list[Line]:
    """A line without a timestamp stays behind the one before it in its file."""
    keyed: list[tuple[str, Line]] = []
    last: dict[str, str] = {}
    for line in lines:
        last[line.process] = line.timestamp or last.get(line.process, "")
        keyed.append((last[line.process], line))
    return [line for _, line in sorted(keyed, key=lambda pair: pair[0])]
