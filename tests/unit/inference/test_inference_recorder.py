"""Records on their way to Kafka: none is dropped in silence."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from kafka.errors import KafkaConnectionError, KafkaTimeoutError

from services.chassis.errors import Overloaded, Unavailable
from services.contracts.inference.v1.predictions_pb2 import PredictionRecord, PredictionRecords
from services.inference import recorder as recorder_module
from services.inference.recorder import Recorder
from services.topics import PREDICTIONS
from tests.unit.inference.fakes import make_metrics


class Sent:
    def __init__(self, ok: bool) -> None:
        self.exception = None if ok else KafkaTimeoutError("not acknowledged")

    def succeeded(self) -> bool:
        return self.exception is None


class FakeBroker:
    """Makes producers; remembers what it acknowledged."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int, str]] = []
        self.sends = 0
        self.partitions = {0}
        self.connections = 0
        self.faults: list[str] = []
        self.slow_flushes = 0
        self.closes_badly = False
        self.up = threading.Event()
        self.up.set()

    def connect(self) -> FakeProducer:
        self.connections += 1
        if not self.up.is_set():
            raise Unavailable("down")
        return FakeProducer(self)

    def fault(self) -> str:
        return self.faults.pop(0) if self.faults else ""


class FakeProducer:
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def partitions_for(self, topic: str) -> set[int]:
        return self._broker.partitions

    def send(self, topic: str, *, value: bytes, partition: int) -> Sent:
        self._broker.sends += 1
        fault = self._broker.fault()
        if fault == "connection":
            raise KafkaConnectionError("gone")
        if fault == "not acknowledged":
            return Sent(ok=False)
        told = PredictionRecords.FromString(value).records
        self._broker.taken += [(topic, partition, record.prediction_id) for record in told]
        return Sent(ok=True)

    def flush(self, timeout: float) -> None:
        if self._broker.slow_flushes:
            self._broker.slow_flushes -= 1
            raise KafkaTimeoutError("not yet")

    def close(self, timeout: float) -> None:
        if self._broker.closes_badly:
            raise KafkaTimeoutError("closing takes too long")


def records(*ids: str) -> list[PredictionRecord]:
    return [PredictionRecord(prediction_id=id_, entity_id=f"e-{id_}") for id_ in ids]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    monkeypatch.setattr(recorder_module, "_RETRY_S", 0.01)
    broker = FakeBroker()
    yield broker
    broker.up.set()


def test_closing_sends_everything_in_order(broker: FakeBroker) -> None:
    recorder = Recorder(broker.connect, make_metrics(), max_rows=10)
    recorder.start()
    recorder.add(records("a"))
    recorder.add(records("b", "c"))

    assert recorder.close(timeout_s=5) == 0

    assert broker.taken == [(PREDICTIONS.name, 0, id_) for id_ in "abc"]


def test_many_records_are_one_of_kafkas_up_to_a_size(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"{n:03}" for n in range(100)]
    [size] = {record.ByteSize() for record in records(*ids)}
    monkeypatch.setattr(recorder_module, "_TOGETHER_BYTES", 30 * size)
    recorder = Recorder(broker.connect, make_metrics(), max_rows=100)
    recorder.add(records(*ids))
    recorder.start()

    assert recorder.close(timeout_s=5) == 0

    assert broker.sends == 4
    assert [id_ for _, _, id_ in broker.taken] == ids


def test_a_record_goes_where_kafka_would_put_its_entity(broker: FakeBroker) -> None:
    """The hashes are those of Kafka's own tests of its partitioner."""
    hashes = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536}
    broker.partitions = {0, 1, 2, 3, 4}
    recorder = Recorder(broker.connect, make_metrics(), max_rows=10)
    recorder.add([PredictionRecord(prediction_id=key, entity_id=key) for key in hashes])
    recorder.start()

    assert recorder.close(timeout_s=5) == 0

    expected = {(PREDICTIONS.name, (value & 0x7FFFFFFF) % 5, key) for key, value in hashes.items()}
    assert set(broker.taken) == expected


@pytest.mark.parametrize("fault", ["connection", "not acknowledged"])
def test_what_failed_is_sent_again_by_a_new_producer(
    broker: FakeBroker, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_TOGETHER_BYTES", 1)
    broker.faults = ["", fault]
    recorder = Recorder(broker.connect, make_metrics(), max_rows=10)
    recorder.start()
    recorder.add(records("a", "b", "c"))

    assert recorder.close(timeout_s=5) == 0

    assert {id_ for _, _, id_ in broker.taken} == {"a", "b", "c"}
    assert broker.connections == 2


def test_while_the_broker_is_slow_nothing_is_sent_twice(broker: FakeBroker) -> None:
    broker.slow_flushes = 3
    recorder = Recorder(broker.connect, make_metrics(), max_rows=10)
    recorder.start()
    recorder.add(records("a", "b"))

    assert recorder.close(timeout_s=5) == 0

    assert [id_ for _, _, id_ in broker.taken] == ["a", "b"] and broker.connections == 1


def test_a_producer_that_does_not_close_stops_nobody(broker: FakeBroker) -> None:
    broker.faults = ["connection"]
    broker.closes_badly = True
    recorder = Recorder(broker.connect, make_metrics(), max_rows=10)
    recorder.start()
    recorder.add(records("a"))

    assert recorder.close(timeout_s=5) == 0

    assert [id_ for _, _, id_ in broker.taken] == ["a"]


def test_while_kafka_is_down_records_wait_until_the_queue_is_full(broker: FakeBroker) -> None:
    broker.up.clear()
    recorder = Recorder(broker.connect, make_metrics(), max_rows=3)
    recorder.start()
    recorder.add(records("a", "b"))
    recorder.check_room(1)

    with pytest.raises(Overloaded, match="2 predictions wait for Kafka, at most 3 may"):
        recorder.add(records("c", "d"))
    with pytest.raises(Overloaded):
        recorder.check_room(2)
    recorder.add(records("e"))
    broker.up.set()

    assert recorder.close(timeout_s=5) == 0
    assert [id_ for _, _, id_ in broker.taken] == ["a", "b", "e"]


def test_closing_without_kafka_tells_how_many_are_lost(broker: FakeBroker) -> None:
    broker.up.clear()
    recorder = Recorder(broker.connect, make_metrics(), max_rows=10)
    recorder.start()
    recorder.add(records("a", "b"))

    assert recorder.close(timeout_s=0.1) == 2
    assert recorder.waiting == 2
