"""When the lake commits: soon enough for who waits, seldom enough for who reads and for the machine."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BUSY_PAUSE_S = 10.0
MAX_QUIET_PAUSE_S = 300.0


@dataclass(slots=True)
class Pacing:
    """Rows are committed after `flush_s`, or at once when `flush_rows` of them wait.

    Commits take no more than `flush_share` of the CPU, unless that would be a pause of more than ten seconds. While no
    rows come, a watermark that moves is committed after pauses that double up to five minutes. All in seconds.
    """

    flush_s: float
    flush_rows: int
    flush_share: float
    last_s: float
    """When the last commit ended, by a monotonic clock."""
    _busy_s: float = 0.0
    _quiet_s: float = 0.0

    def due(self, rows: int, watermark_moved: bool, now_s: float) -> bool:
        """Whether to commit now."""
        if rows >= self.flush_rows:
            return True
        if not rows and not watermark_moved:
            return False
        pause_s = max(self.flush_s, self._busy_s) if rows else max(self.flush_s, self._busy_s, self._quiet_s)
        return now_s - self.last_s >= pause_s

    def done(self, rows: int, cpu_s: float, now_s: float) -> None:
        """A commit of so many rows was made, with so much CPU time."""
        self.last_s = now_s
        self._busy_s = min(cpu_s / self.flush_share, MAX_BUSY_PAUSE_S)
        self._quiet_s = 0.0 if rows else min(max(2 * self._quiet_s, 2 * self.flush_s), MAX_QUIET_PAUSE_S)
