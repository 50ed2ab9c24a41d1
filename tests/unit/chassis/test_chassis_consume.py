"""The consume loop: the effect first, then the offsets."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from services.chassis.errors import Invalid, Unavailable
from services.chassis.kafka import consume
from tests.unit.chassis.fakes import FakeConsumer, FakeRecord


class Loop:
    """The loop over some batches; `act` raises `failures` one after the other before it succeeds."""

    def __init__(self, batches: list[list[int]], failures: list[Exception] | None = None) -> None:
        self.stopping = threading.Event()
        records = [[FakeRecord(offset) for offset in batch] for batch in batches]
        self.consumer = FakeConsumer(records, self.stopping)
        self.done = self.consumer.done
        self._failures = failures or []

    def act(self, batch: list[Any]) -> None:
        if self._failures:
            self.done.append("failed")
            raise self._failures.pop(0)
        self.done.append(f"act {[record.offset for record in batch]}")

    def run(self, **options: Any) -> None:
        consume(self.consumer, self.act, self.stopping, **options)


def test_offsets_are_committed_after_each_effect() -> None:
    loop = Loop([[1, 2], [3]])

    loop.run()

    assert loop.done == ["act [1, 2]", "commit", "act [3]", "commit", "close"]


def test_a_part_that_does_not_answer_is_asked_again_with_the_same_batch() -> None:
    loop = Loop([[1], [2]], [Unavailable("down")])

    loop.run()

    assert loop.done == ["failed", "act [1]", "commit", "act [2]", "commit", "close"]


@pytest.mark.parametrize("error", [Invalid("bad"), RuntimeError("bug")], ids=["ours", "bug"])
def test_another_error_ends_the_loop_without_a_commit(error: Exception) -> None:
    loop = Loop([[1], [2]], [error])

    with pytest.raises(type(error)):
        loop.run()

    assert loop.done == ["failed", "close"]


def test_a_stop_while_a_part_is_down_leaves_the_batch_uncommitted() -> None:
    loop = Loop([[1], [2]], [Unavailable("down")])

    def stop_in_the_pause(batch: list[Any]) -> None:
        loop.stopping.set()
        loop.act(batch)

    consume(loop.consumer, stop_in_the_pause, loop.stopping)

    assert loop.done == ["failed", "close"]


def test_idle_is_called_when_nothing_came() -> None:
    loop = Loop([[], [1], []])

    loop.run(idle=lambda: loop.done.append("idle"))

    assert loop.done == ["idle", "act [1]", "commit", "idle", "idle", "close"]


def test_who_commits_more_than_offsets_does_it_instead() -> None:
    loop = Loop([[1]])

    loop.run(commit=lambda: loop.done.append("own commit"))

    assert loop.done == ["act [1]", "own commit", "close"]
