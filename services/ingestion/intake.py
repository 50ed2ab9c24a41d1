"""Events that come by an API: checked like any other, and appended to upstream's topic, so that there is one path."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from services.chassis.errors import Unavailable
from services.ingestion import metrics
from services.ingestion.validation import Accepted, Rejected, Validator
from services.topics import UPSTREAM

_CONFIRM_TIMEOUT_S = 5.0


class Answer(NamedTuple):
    """For one event; `reason` and `detail` are "" if it was accepted."""

    accepted: bool
    event_id: str
    reason: str = ""
    detail: str = ""


class Intake:
    """Thread-safe; blocks its caller. The producer is made with the first call."""

    def __init__(self, validator: Validator, make_producer: Callable[[], KafkaProducer]) -> None:
        self._validator = validator
        self._make_producer = make_producer
        self._producer: KafkaProducer | None = None
        self._lock = threading.Lock()

    def publish(self, documents: Sequence[bytes], edge: str) -> list[Answer]:
        """An answer for each CloudEvent, in order; the accepted ones are on the broker (acks=all).

        `edge` names the caller in the metrics. Raises Unavailable if the broker does not confirm: some of the events
        may have been appended then, so send the same ones again; their ids make that harmless.
        """
        verdicts = [self._validator.check(document) for document in documents]
        good = [
            (document, verdict.key if isinstance(verdict, Accepted) else None)
            for document, verdict in zip(documents, verdicts, strict=True)
            if not isinstance(verdict, Rejected)
        ]
        if good:
            self._append(good)
        answers = [
            Answer(False, verdict.event_id, verdict.reason.value, verdict.detail)
            if isinstance(verdict, Rejected)
            else Answer(True, verdict.event_id)
            for verdict in verdicts
        ]
        for answer in answers:
            metrics.EDGE_EVENTS.labels(edge, "accepted" if answer.accepted else answer.reason).inc()
        return answers

    def close(self) -> None:
        """Nothing waits in the producer: every call has waited for its own."""
        if self._producer is not None:
            self._producer.close(timeout=1)

    def _append(self, good: list[tuple[bytes, bytes | None]]) -> None:
        try:
            producer = self._connected()
            sent: list[Any] = [producer.send(UPSTREAM, document, key) for document, key in good]
            for future in sent:
                future.get(timeout=_CONFIRM_TIMEOUT_S)
        except KafkaError as error:
            raise Unavailable(f"Kafka does not confirm ({error!r}); send the same events again") from error

    def _connected(self) -> KafkaProducer:
        with self._lock:
            if self._producer is None:
                self._producer = self._make_producer()
            return self._producer
