"""When an accepted event could first be known, and the watermark that promises that nothing earlier follows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stamper:
    """Gives each event its `available_at` in upstream's order. Microseconds since the epoch.

    `watermark_us` never falls, and no later event gets an earlier `available_at`. What upstream delivers behind the
    watermark could not be known before, so it gets the watermark. With recordedtime the stamps depend on nothing but
    the watermark at the start and upstream's order: a batch that is published again carries the same ones.
    """

    trust_recordedtime: bool
    watermark_us: int | None = None

    def stamp(self, time_us: int, recorded_us: int | None, now_us: int) -> int:
        """`available_at` of the next event, never before its time."""
        if self.trust_recordedtime and recorded_us is not None:
            return self._raise_to(recorded_us)
        return max(self._raise_to(now_us), time_us)

    def heartbeat(self, recorded_us: int, now_us: int) -> None:
        """Upstream has sent all that it knew by `recorded_us`."""
        self._raise_to(recorded_us if self.trust_recordedtime else now_us)

    def _raise_to(self, moment_us: int) -> int:
        if self.watermark_us is None or moment_us > self.watermark_us:
            self.watermark_us = moment_us
        return self.watermark_us
