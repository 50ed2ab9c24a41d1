"""How far event time may have come by now."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_NEVER = datetime.max.replace(tzinfo=UTC)


class Pace:
    """Event time that runs `speed` times as fast as the clock, from `begins` on; `speed` None: nothing holds it."""

    def __init__(self, speed: float | None, begins: datetime, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._speed = speed
        self._reached = begins
        self._monotonic = monotonic
        self._looked_s = monotonic()

    def now(self) -> datetime:
        """What may be sent by now."""
        if self._speed is None:
            return _NEVER
        self._reached += timedelta(seconds=self._elapsed_s() * self._speed)
        return self._reached

    def hold(self) -> None:
        """The time since the last look does not count."""
        self._elapsed_s()

    def _elapsed_s(self) -> float:
        before, self._looked_s = self._looked_s, self._monotonic()
        return self._looked_s - before
