"""Training sets one at a time, since each may take gigabytes: few callers wait, and a build ends with its caller."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from functools import partial
from typing import Protocol

from services.chassis.errors import Overloaded, Unavailable
from services.features.lake import Tell
from services.features.training_sets import TrainingSet

_MOST_WAITING = 4


class Build(Protocol):
    """Blocks; calls what it is to tell often, and ends when that raises."""

    def __call__(
        self, from_: datetime, to: datetime, known_by: datetime, tell: Tell, *, labels: bool
    ) -> TrainingSet: ...


class Builds:
    """Runs builds in a thread. Belongs to one event loop."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._free = asyncio.Lock()
        self._waiting = 0
        self._stopping = threading.Event()

    def stop(self) -> None:
        """The process ends: what is being built ends at its next stage, with Unavailable."""
        self._stopping.set()

    async def run(
        self, from_: datetime, to: datetime, known_by: datetime, tell: Tell, *, labels: bool = True
    ) -> TrainingSet:
        """`tell` is called in the loop's thread, too. If this is cancelled the build ends at its next stage.

        Raises Overloaded if many wait already, and what the build raises.
        """
        await self._turn(tell)
        left = threading.Event()

        def tell_or_end(stage: str) -> None:
            if self._stopping.is_set() or left.is_set():
                raise Unavailable("training set: the server stops, or the caller left; ask again")
            tell(stage)

        build = partial(self._build, from_, to, known_by, tell_or_end, labels=labels)
        building = asyncio.get_running_loop().run_in_executor(None, build)
        # It is the thread that must be over before the next one begins, not the call.
        building.add_done_callback(lambda _: self._free.release())
        try:
            return await asyncio.shield(building)
        finally:
            left.set()

    async def _turn(self, tell: Tell) -> None:
        if self._free.locked():
            if self._waiting >= _MOST_WAITING:
                raise Overloaded(f"training set: {self._waiting} calls wait for another one to be built; try later")
            tell("waiting for another training set to be built")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
