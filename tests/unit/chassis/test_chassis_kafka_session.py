"""A session with the broker: begun again when a part is gone, ended by a bug."""

from __future__ import annotations

from kafka.errors import KafkaConnectionError

from services.chassis.errors import Unavailable
from services.chassis.kafka_session import PART, SessionThread, keep
from services.chassis.lifecycle import Lifecycle
from tests.support import eventually


class Session:
    """Raises its failures one run after the other, then stops the process."""

    def __init__(self, lifecycle: Lifecycle, failures: list[Exception]) -> None:
        self._lifecycle = lifecycle
        self._failures = failures
        self.begun = 0
        self.readiness: list[str] = []

    def __call__(self) -> None:
        self.begun += 1
        self.readiness.append(self._lifecycle.waiting_for.get(PART, ""))
        if self._failures:
            raise self._failures.pop(0)
        self._lifecycle.ready(PART)
        self._lifecycle.stop()


def test_a_session_begins_again_after_the_broker_was_gone() -> None:
    lifecycle = Lifecycle()
    session = Session(lifecycle, [Unavailable("lake is full"), KafkaConnectionError()])

    keep(session, lifecycle)

    assert session.begun == 3
    assert session.readiness[1] == "lake is full"
    assert "KafkaConnectionError" in session.readiness[2]
    assert lifecycle.waiting_for == {}


def test_a_session_of_another_part_is_not_ready_under_that_name() -> None:
    lifecycle = Lifecycle()
    readiness: list[dict[str, str]] = []

    def session() -> None:
        readiness.append(lifecycle.waiting_for)
        if len(readiness) == 2:
            lifecycle.stop()
            return
        raise Unavailable("gone")

    keep(session, lifecycle, part="requests")

    assert readiness == [{}, {"requests": "gone"}]


def test_the_process_ends_with_0_when_it_was_told_to_stop() -> None:
    lifecycle = Lifecycle()
    thread = SessionThread(Session(lifecycle, []), lifecycle)

    eventually(lifecycle.stopping.is_set, "the session has stopped the process")

    assert thread.join() == 0


def test_a_bug_ends_the_process_with_1() -> None:
    lifecycle = Lifecycle()
    thread = SessionThread(Session(lifecycle, [RuntimeError("bug")]), lifecycle)

    eventually(lifecycle.stopping.is_set, "the bug has stopped the process")

    assert thread.join() == 1
