"""Frames that carry no call forward: some are needed, a flood of them is an attack."""

from __future__ import annotations

from services.chassis.fastlane.frames import ErrorCode, PeerError


class Floods:
    """Counts them over one period; beyond `most` of one kind the peer is told to calm down (PeerError)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.idle_frames = 0
        self._resets = 0

    def idle(self) -> None:
        """A frame of no use to a call."""
        self.idle_frames += 1
        self._check()

    def excuse(self) -> None:
        """A call came to its end, or an answer went on: frames like the last are part of that."""
        self.idle_frames = max(self.idle_frames - 1, 0)

    def reset(self) -> None:
        """A call that was begun for nothing, by the peer's wish or its mistake; no work excuses that."""
        self._resets += 1
        self._check()

    def new_period(self) -> None:
        """Counts from zero."""
        self.idle_frames = self._resets = 0

    def _check(self) -> None:
        if max(self.idle_frames, self._resets) > self._most:
            raise PeerError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that carry no call forward")
