"""One run of a replay: sends as far as it may, asks what is due, and ends when all of it is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

from loadtests.replay.asking import Asking
from loadtests.replay.pace import Pace
from loadtests.replay.plan import Pause, Plan, Progress, Tell
from loadtests.replay.sender import Sender
from services.chassis.errors import Unavailable

_TELL_EVERY_S = 0.25
_PAUSE_EVERY_S = 0.25
_IDLE_S = 0.01


class Run:
    """Everything until `until`, which lies on the grid. `save` keeps the position."""

    def __init__(
        self,
        plan: Plan,
        *,
        sender: Sender,
        asking: Asking,
        save: Callable[[], Awaitable[None]],
        begins: datetime,
        until: datetime,
        predict: bool,
        pause: Pause | None,
        tell: Tell | None,
    ) -> None:
        self._plan = plan
        self._sender = sender
        self._asking = asking
        self._save = save
        self._begins = begins
        self._until = until
        self._predict = predict
        self._pause = pause
        self._tell = tell
        self._pace = Pace(plan.speed, sender.reached)
        self._paused = False
        self._waiting_for = ""
        self._asked_pause_s = self._told_s = 0.0
        self._saved_s = time.monotonic()

    async def play(self) -> None:
        """Returns when all is over. Whatever ends it, what was sent and answered is in the position."""
        self._asking.predict = self._predict
        background = [asyncio.create_task(self._asking.work()) for _ in range(self._plan.in_flight)]
        background.append(asyncio.create_task(self._asking.follow()))
        playing = asyncio.create_task(self._play())
        try:
            done, _ = await asyncio.wait({playing, *background}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (playing, *background):
                task.cancel()
            await asyncio.gather(playing, *background, return_exceptions=True)
            with suppress(Unavailable):
                await self._save()

    async def _play(self) -> None:
        while not self._over():
            if await self._is_paused():
                self._pace.hold()
                self._waiting_for = "pause"
                await asyncio.sleep(_IDLE_S)
            elif not await self._send():
                await asyncio.sleep(_IDLE_S)
            await self._keep_position()
            self._tell_progress(_TELL_EVERY_S)
        self._waiting_for = ""
        await self._save()
        self._tell_progress(0)

    def _over(self) -> bool:
        if self._sender.reached < self._until:
            return False
        if not self._predict:
            self._asking.skip_before(self._until)
        oldest, watermark = self._asking.oldest, self._asking.watermark
        there = self._plan.features is None or (watermark is not None and watermark >= self._until)
        return there and (oldest is None or oldest >= self._until)

    async def _send(self) -> int:
        """How many records."""
        limit, self._waiting_for = self._limit()
        horizon = min(self._until, self._pace.now(), limit)
        if horizon <= self._sender.reached:
            return 0
        sending = asyncio.ensure_future(asyncio.to_thread(self._sender.advance, horizon))
        try:
            await asyncio.shield(sending)
        finally:
            # Also when we are cancelled: what was sent has raised its questions.
            sent = await sending
            self._asking.add(sent.questions)
        if not self._predict:
            self._asking.skip_before(self._sender.reached)
        return sent.records

    def _limit(self) -> tuple[datetime, str]:
        """How far the others allow to send, and which of them holds us if that is no further than we are."""
        if self._plan.features is None:
            return self._until, ""
        ahead = self._plan.ahead if self._predict else self._plan.ahead_unasked
        limits = [((self._asking.watermark or self._begins) + ahead, "features")]
        oldest = self._asking.oldest
        if self._predict and oldest is not None:
            limits.append((oldest + self._plan.room, "predictions"))
        limit, name = min(limits)
        if self._sender.reached >= self._until:
            name = "features" if (self._asking.watermark or self._begins) < self._until else "predictions"
            return limit, name
        return limit, name if limit <= self._sender.reached else ""

    async def _is_paused(self) -> bool:
        now_s = time.monotonic()
        if self._pause is not None and now_s - self._asked_pause_s >= _PAUSE_EVERY_S:
            self._paused = await asyncio.to_thread(self._pause)
            self._asked_pause_s = now_s
        return self._paused

    async def _keep_position(self) -> None:
        if time.monotonic() - self._saved_s >= self._plan.position_every_s:
            await self._save()
            self._saved_s = time.monotonic()

    def _tell_progress(self, every_s: float) -> None:
        now_s = time.monotonic()
        if self._tell is None or now_s - self._told_s < every_s:
            return
        self._told_s = now_s
        sender, asking = self._sender, self._asking
        self._tell(
            Progress(sender.reached, self._until, asking.watermark, asking.count, self._waiting_for, sender.totals)
        )
