"""A Kafka consumer that tests lead by hand."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class FakeRecord:
    """A consumed record."""

    offset: int
    topic: str = "t"
    partition: int = 0
    key: bytes | None = None
    value: bytes | None = b""
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class FakeConsumer:
    """Gives its batches one poll after the other and sets `stopping` when there is none left. Notes what is done."""

    batches: list[list[FakeRecord]]
    stopping: threading.Event
    done: list[str] = field(default_factory=list)

    def poll(self, timeout_ms: int) -> dict[str, list[FakeRecord]]:
        assert timeout_ms > 0
        if not self.batches:
            self.stopping.set()
            return {}
        batch = self.batches.pop(0)
        return {"partition": batch} if batch else {}

    def commit(self) -> None:
        self.done.append("commit")

    def close(self) -> None:
        self.done.append("close")
