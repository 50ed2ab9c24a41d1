"""The books of a replay: what was sent, what was asked and what came back, from its very beginning."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from loadtests.replay.latency import Latencies
from loadtests.replay.mess import DEAD, FIRST, Kind, Sending


@dataclass(slots=True)
class Totals:
    """Counts since the replay began, over every resume.

    `sent` counts events by type, each once; `kinds` counts every record by what it is. `sent_again` counts, by kind,
    what a resume sent although it was there: records of a killed replay that reached the broker after we had looked.
    """

    sent: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    sent_again: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    """By `<version>/<variant>`."""
    failed: Counter[str] = field(default_factory=Counter)
    """By gRPC status."""
    skipped: int = 0
    """Questions that came due while no predictions were wanted."""
    retried: int = 0
    missing_features: int = 0
    stale_features: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    """Of the attempts that were answered, as the client sees them."""

    def count_sent(self, sending: Sending) -> None:
        self.kinds[sending.kind] += 1
        if sending.kind in FIRST:
            self.sent[sending.event.type] += 1

    @property
    def records(self) -> int:
        """Records on the topic that are ours."""
        return self.kinds.total() + self.sent_again.total()

    @property
    def asked(self) -> int:
        """Questions that are over, answered or not."""
        return self.answered.total() + self.failed.total()

    @property
    def mess(self) -> dict[str, int]:
        """Records by kind of mess."""
        return {kind: count for kind, count in self.kinds.items() if kind not in (Kind.EVENT, Kind.HEARTBEAT)}

    @property
    def dead_letters(self) -> dict[str, int]:
        """By reason: the dead letters that the mess must have caused."""
        return {reason: n for reason in DEAD if (n := self.kinds[reason] + self.sent_again[reason])}

    @property
    def duplicates(self) -> int:
        """Records that repeat an accepted event's id."""
        return self.kinds[Kind.DUPLICATE] + sum(self.sent_again[kind] for kind in (*FIRST, Kind.DUPLICATE))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told: dict[str, Any] = {name: dict(getattr(self, name)) for name in _COUNTERS}
        told |= {name: getattr(self, name) for name in _NUMBERS}
        return told | {"latencies": {str(bucket): count for bucket, count in self.latencies.buckets.items()}}

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Totals:
        """The inverse of `as_dict`."""
        buckets = Counter({int(bucket): count for bucket, count in told["latencies"].items()})
        found: dict[str, Any] = {name: Counter(told[name]) for name in _COUNTERS}
        found |= {name: told[name] for name in _NUMBERS}
        return cls(**found, latencies=Latencies(buckets))


_COUNTERS = ("sent", "kinds", "sent_again", "answered", "failed")
_NUMBERS = ("skipped", "retried", "missing_features", "stale_features")
