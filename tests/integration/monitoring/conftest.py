"""Monitoring as a real process beside a real Kafka, and the records that others would send it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from kafka import TopicPartition

from services.chassis.clock import to_proto
from services.chassis.kafka import ensure_topics, make_consumer, make_producer
from services.chassis.settings import KafkaSettings
from services.contracts.events.v1 import events_pb2
from services.contracts.inference.v1 import predictions_pb2
from services.contracts.monitoring.v1 import monitoring_pb2, monitoring_pb2_grpc
from services.contracts.training.v1 import training_pb2
from services.topics import PREDICTIONS, TRAINING_REQUESTS, events_topic
from tests.support import PARCELS, free_port, run_service

T0 = datetime(2013, 5, 1, tzinfo=UTC)
MODEL = "parcel-delay"
FEATURES = ["load", "rain"]
DELIVERED, LOST = "parcel.delivered", "parcel.lost"


class Upstream:
    """Sends what inference and ingestion would."""

    def __init__(self, kafka: KafkaSettings) -> None:
        ensure_topics(kafka, [PREDICTIONS.name, events_topic(DELIVERED).name, events_topic(LOST).name])
        self._producer = make_producer(kafka)

    def predict(
        self, number: int, *, hours: float = 0, score: float = 0.5, vector: Sequence[float] = (), release: str = ""
    ) -> None:
        record = predictions_pb2.PredictionRecord(
            prediction_id=f"p{number}",
            entity_id=f"e{number}",
            model=MODEL,
            model_version="1",
            variant="champion",
            assignment_probability=1.0,
            release_id=release,
            as_of=to_proto(T0 + timedelta(hours=hours)),
            vector=np.array(vector, "<f4").tobytes(),
            score=score,
        )
        value = predictions_pb2.PredictionRecords(records=[record]).SerializeToString()
        self._producer.send(PREDICTIONS.name, key=record.entity_id.encode(), value=value)

    def tell(self, number: int, late: int | None, *, hours: float = 1) -> None:
        """The outcome of an entity; None: lost."""
        moment = to_proto(T0 + timedelta(hours=hours))
        kind = LOST if late is None else DELIVERED
        payload = {"parcel_id": f"e{number}", "shop": "shop-1"} | ({} if late is None else {"late": late})
        event = events_pb2.Event(
            event_id=f"o{number}",
            type=kind,
            event_time=moment,
            available_at=moment,
            payload_json=json.dumps(payload).encode(),
        )
        value = events_pb2.EventRecord(event=event).SerializeToString()
        self._producer.send(events_topic(kind).name, key=f"e{number}".encode(), value=value)

    def watermark(self, hours: float) -> None:
        mark = events_pb2.Watermark(available_at=to_proto(T0 + timedelta(hours=hours)))
        value = events_pb2.EventRecord(watermark=mark).SerializeToString()
        for kind in (DELIVERED, LOST):
            self._producer.send(events_topic(kind).name, value=value)

    def garbage(self) -> None:
        for topic in (PREDICTIONS.name, events_topic(DELIVERED).name):
            self._producer.send(topic, key=b"k", value=b"\xff\xfe not a record")

    def flush(self) -> None:
        self._producer.flush()

    def close(self) -> None:
        self._producer.close()


@dataclass
class Monitoring:
    """The running process and its gRPC edge."""

    running: Any
    http: str
    stub: Any = field(repr=False)

    def counts(self) -> monitoring_pb2.GetCountsResponse:
        return self.stub.GetCounts(monitoring_pb2.GetCountsRequest(), timeout=10)

    def triggers(self) -> list[monitoring_pb2.Trigger]:
        return list(self.stub.ListTriggers(monitoring_pb2.ListTriggersRequest(), timeout=10).triggers)


class Starter:
    """Starts monitoring again and again on the same database."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self._kafka = kafka
        self._folder = folder

    @contextmanager
    def __call__(self, mlflow: str = "http://127.0.0.1:9") -> Iterator[Monitoring]:
        grpc_port, http_port = free_port(), free_port()
        env = {
            "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": self._kafka.bootstrap_servers,
            "SLIPWAY_FEATURE_REPO": str(PARCELS),
            "SLIPWAY_DATABASE": f"sqlite:///{self._folder}/monitoring.db",
            "SLIPWAY_MLFLOW": mlflow,
            "SLIPWAY_MLFLOW_POLL_S": "0.2",
            "SLIPWAY_GRPC_PORT": str(grpc_port),
            "SLIPWAY_HTTP_PORT": str(http_port),
            "SLIPWAY_OPS": "{}",
            "SLIPWAY_ROUTER": "127.0.0.1:9",
            "SLIPWAY_TRAINING": "127.0.0.1:9",
        }
        with (
            run_service("services.monitoring", env=env) as running,
            grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel,
        ):
            stub = monitoring_pb2_grpc.MonitoringServiceStub(channel)
            yield Monitoring(running, f"http://127.0.0.1:{http_port}", stub)


@pytest.fixture
def upstream(kafka: KafkaSettings) -> Iterator[Upstream]:
    upstream = Upstream(kafka)
    yield upstream
    upstream.close()


@pytest.fixture
def monitoring(kafka: KafkaSettings, tmp_path: Path) -> Starter:
    return Starter(kafka, tmp_path)


@pytest.fixture
def requests(kafka: KafkaSettings) -> Iterator[Any]:
    """Call it for every RetrainRequest that Kafka holds by now."""
    ensure_topics(kafka, [TRAINING_REQUESTS.name])
    consumer = make_consumer(kafka, "test", [])
    consumer.assign([TopicPartition(TRAINING_REQUESTS.name, 0)])
    consumer.seek_to_beginning()
    found: list[training_pb2.RetrainRequest] = []

    def read() -> list[training_pb2.RetrainRequest]:
        for records in consumer.poll(timeout_ms=200).values():
            found.extend(training_pb2.RetrainRequest.FromString(record.value) for record in records)
        return found

    yield read
    consumer.close()
