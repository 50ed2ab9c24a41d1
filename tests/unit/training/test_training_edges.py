"""Kafka's edge without a broker, and that settings, README and what deploys it speak of the same names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from deploy.local.home import REPOSITORY
from services.contracts.training.v1 import training_pb2 as pb
from services.training.consumer import RecordPublisher, RequestConsumer
from services.training.runs import Run, RunState
from services.training.settings import TrainingSettings
from services.training.store import RunStore
from services.training.translate import run_to_proto, to_record
from tests.unit.training.fakes import REQUEST


@dataclass
class FakeRecord:
    value: bytes | None
    topic: str = "training.requests.v1"
    partition: int = 0
    offset: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class FakeProducer:
    """Takes records; acknowledges them unless `down`."""

    sent: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    down: bool = False

    def send(self, topic: str, *, key: bytes, value: bytes) -> Any:
        self.sent.append((topic, key, value))
        return self

    def get(self, timeout: float) -> None:
        if self.down:
            raise KafkaTimeoutError("no acknowledgement")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    numbers = count()
    opened = RunStore(tmp_path, to_record, lambda: f"run-{next(numbers)}")
    yield opened
    opened.close()


def _request(**changes: str) -> pb.RetrainRequest:
    asked = run_to_proto(Run("", REQUEST)).request
    for name, value in changes.items():
        setattr(asked, name, value)
    return asked


def test_requests_are_queued_once_and_others_passed_over(store: RunStore) -> None:
    records = [
        _request(),
        _request(reason="sent again"),
        _request(request_id="request-2"),
        _request(request_id="x", model="another"),
        _request(request_id=""),
        _request(request_id="no time"),
    ]
    records[-1].to.seconds = 10**15
    batch = [FakeRecord(each.SerializeToString()) for each in records]

    RequestConsumer(store, "m").act([*batch, FakeRecord(b"\xff\xfe"), FakeRecord(None), *batch])  # type: ignore[list-item]

    assert [run.request.request_id for run in store.all()] == ["request-2", "request-1"]
    assert {run.state for run in store.all()} == {RunState.QUEUED}


def test_records_are_dropped_only_when_kafka_has_them(store: RunStore) -> None:
    run = store.save(store.queue(REQUEST), tell=True)
    producer = FakeProducer(down=True)
    publisher = RecordPublisher(store)

    with pytest.raises(KafkaTimeoutError):
        publisher.publish(producer)
    assert len(store.unsent()) == 1
    producer.down = False
    publisher.publish(producer)
    publisher.publish(producer)

    assert producer.sent == 2 * [("training.runs.v1", b"m", to_record(run))]
    assert store.unsent() == []


def test_the_readme_names_every_setting_of_its_own() -> None:
    readme = (REPOSITORY / "services" / "training" / "README.md").read_text()
    shared = {"kafka", "host", "log_level", "log_format"}

    missing = [name for name in TrainingSettings.model_fields if f"SLIPWAY_{name.upper()}" not in readme]

    assert set(missing) <= shared
