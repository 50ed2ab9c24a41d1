"""Kafka in and out: registered runs queue releases, each transition becomes a record once Kafka has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka.errors import KafkaTimeoutError

from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2
from services.router.consumer import ReleasePublisher, RunConsumer
from tests.unit.router.fakes import Desk, FakeRegistry


@dataclass
class Record:
    value: bytes | None
    topic: str = "training.runs.v1"
    partition: int = 0
    offset: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def run(
    model: str = "m",
    state: training_pb2.RunState = training_pb2.RUN_STATE_REGISTERED,
    run_id: str = "run-2",
    version: str = "2",
    requested_at_s: int | None = None,
) -> Record:
    told = training_pb2.Run(run_id=run_id, state=state, model_version=version)
    if requested_at_s is not None:
        told.request.requested_at.seconds = requested_at_s
    told.request.model = model
    return Record(training_pb2.RunRecord(run=told).SerializeToString())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, FakeRegistry({"1", "2"}, champion="1"))


def test_a_registered_run_queues_a_release_once(desk: Desk) -> None:
    consumer = RunConsumer(desk.commands, "m")

    consumer.act([run(), run()])
    consumer.act([run()])

    (account,) = desk.store.accounts()
    assert account.release.challenger_version == "2"
    assert "run-2" in account.release.reason


@pytest.mark.parametrize(
    "record",
    [
        run(model="another"),
        run(state=training_pb2.RUN_STATE_REFUSED),
        run(version=""),
        run(version="../2"),
        run(run_id=""),
        run(run_id="run-1", requested_at_s=10**15),
        Record(b"\xff\xff not a record"),
        Record(None),
    ],
    ids=["another model", "refused", "no version", "no number", "no id", "no time", "garbage", "tombstone"],
)
def test_any_other_record_starts_nothing_and_stops_nothing(desk: Desk, record: Record) -> None:
    RunConsumer(desk.commands, "m").act([record, run()])

    assert len(desk.store.accounts()) == 1


class FakeProducer:
    """Takes `room` records, then times out."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[router_pb2.Release] = []

    def send(self, topic: str, key: bytes, value: bytes) -> FakeFuture:
        assert (topic, key) == ("router.releases.v1", b"m")
        return FakeFuture(self, router_pb2.ReleaseRecord.FromString(value).release)


@dataclass
class FakeFuture:
    producer: FakeProducer
    release: router_pb2.Release

    def get(self, timeout: float) -> None:
        if len(self.producer.taken) >= self.producer.room:
            raise KafkaTimeoutError
        self.producer.taken.append(self.release)


async def test_a_record_for_each_transition_with_all_before_it(desk: Desk) -> None:
    desk.register("2")
    await desk.tick(2)
    producer = FakeProducer(room=100)

    ReleasePublisher(desk.store).publish(producer)
    ReleasePublisher(desk.store).publish(producer)

    assert [len(release.transitions) for release in producer.taken] == [1, 2, 3]
    assert [release.phase for release in producer.taken] == [
        router_pb2.PHASE_PENDING,
        router_pb2.PHASE_PENDING,
        router_pb2.PHASE_RUNNING,
    ]


async def test_what_kafka_did_not_acknowledge_is_sent_again(desk: Desk) -> None:
    desk.register("2")
    await desk.tick(2)
    with pytest.raises(KafkaTimeoutError):
        ReleasePublisher(desk.store).publish(FakeProducer(room=1))
    desk.restart()
    producer = FakeProducer(room=100)

    ReleasePublisher(desk.store).publish(producer)

    assert [len(release.transitions) for release in producer.taken] == [1, 2, 3]
