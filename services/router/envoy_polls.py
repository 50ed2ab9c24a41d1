"""What Envoy has taken over, from its route polls: each poll names the version that it accepted last."""

from __future__ import annotations

import time
from collections.abc import Callable

_GONE_AFTER_S = 5.0


class EnvoyPolls:
    """By Envoy node. A node that has not polled for 5 s is gone. `monotonic` is a clock in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: dict[str, tuple[str, float]] = {}

    def saw(self, node: str, accepted_version: str) -> None:
        """A poll of a node; `accepted_version` is "" before its first routes."""
        self._last[node] = (accepted_version, self._monotonic())

    def applied(self, version: str) -> bool:
        """Whether there is an Envoy, and every one has taken over this version."""
        alive = [accepted for accepted, at in self._last.values() if self._monotonic() - at <= _GONE_AFTER_S]
        return bool(alive) and all(accepted == version for accepted in alive)
