"""What a run has scored so far: its plan and its parts, in a folder that a killed run leaves and the next takes up."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from services.chassis.errors import Conflict, Unavailable

_PLAN, _LOCK, _PART, _UNFINISHED = "plan.json", "lock", ".parquet", ".part"


class Plan(BaseModel):
    """What a run is. The same plan gives the same output.

    `told` is what was asked for, `content` what the input was; an alias stays the version that it was at the begin.
    """

    model_config = ConfigDict(frozen=True)

    told: Mapping[str, str]
    content: str
    model: str
    version: str
    onnx_sha256: str

    @property
    def id(self) -> str:
        """The same for an alias and for the version that it named."""
        rows = sorted((name, value) for name, value in self.told.items() if name != "model")
        return hashlib.sha256(
            repr((rows, self.content, self.model, self.version, self.onnx_sha256)).encode()
        ).hexdigest()


class Work:
    """The folder, while this run has its lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def plan(self) -> Plan | None:
        """Of the run that left parts here, if there is any."""
        try:
            plan = Plan.model_validate_json((self._folder / _PLAN).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return plan if self.parts else None

    @property
    def parts(self) -> list[Path]:
        """What is scored, in order."""
        return sorted(self._folder.glob(f"*{_PART}"))

    def has(self, number: int) -> bool:
        """Is that slice scored?"""
        return self._path(number).exists()

    def begin(self, plan: Plan) -> None:
        """Throws away what is not of this plan."""
        if self.plan != plan:
            for part in self.parts:
                part.unlink()
            unfinished = self._folder / f".{_PLAN}{_UNFINISHED}"
            unfinished.write_text(plan.model_dump_json(indent=1))
            settle(unfinished, self._folder / _PLAN)

    @contextmanager
    def writing(self, number: int) -> Iterator[Path]:
        """Where to write a part, which is there once the block ends well."""
        path = self._path(number)
        unfinished = path.with_name(f".{path.name}{_UNFINISHED}")
        yield unfinished
        settle(unfinished, path)

    def remove(self) -> None:
        """All of it: the output is written."""
        shutil.rmtree(self._folder)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}{_PART}"


@contextmanager
def opened(folder: Path) -> Iterator[Work]:
    """The folder, made if need be, for this run alone; one without parts is taken away again. Raises Conflict."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / _LOCK
        lock.touch()
    except OSError as error:
        raise Unavailable(f"{folder}: cannot be made: {error}") from error
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(f"{folder}: another run writes to that output just now") from error
        if not (lock.exists() and os.path.samestat(lock.stat(), os.fstat(held.fileno()))):
            raise Conflict(f"{folder}: another run to that output has just ended; try again")
        work = Work(folder)
        try:
            yield work
        finally:
            if folder.exists() and not work.parts:
                work.remove()


def settle(unfinished: Path, path: Path) -> None:
    """Moves a whole file to its place, when the disk has it."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)
