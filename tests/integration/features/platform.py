"""What the tests do to the two processes, and the answers that the oracle gives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import grpc
import httpx
import numpy as np
import redis

from services.chassis.clock import from_proto, parse_rfc3339, to_proto, to_us
from services.chassis.kafka import ensure_topics, make_producer
from services.chassis.settings import KafkaSettings
from services.contracts.events.v1.events_pb2 import Event, EventRecord, Watermark
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.features.definitions import Definitions, VectorPlan, load_definitions
from services.topics import events_topic
from tests.problems.parcels.upstream import Upstream
from tests.support import run_service
from tests.support.feature_oracle import Answer, FactualEvent, ValueStatus, ask
from tests.support.process import Running

SERVICE = "parcel_delay_v1"
PRESENT, MISSING, STALE = (
    features_pb2.FEATURE_STATUS_PRESENT,
    features_pb2.FEATURE_STATUS_MISSING,
    features_pb2.FEATURE_STATUS_STALE,
)
_STATUS = {ValueStatus.PRESENT: PRESENT, ValueStatus.MISSING: MISSING, ValueStatus.STALE: STALE}


@dataclass(frozen=True, slots=True)
class Row:
    """One question."""

    shop: str
    courier: str
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Answered:
    """`values` [rows, features] and `statuses` likewise."""

    values: np.ndarray
    statuses: np.ndarray
    watermark: datetime | None


@dataclass(frozen=True)
class Platform:
    """A broker, a Redis, and the settings of the two processes between them."""

    kafka: KafkaSettings
    redis: str
    env: dict[str, str]
    types: dict[str, list[FactualEvent]] = field(default_factory=dict)
    """What was published, by event type."""

    @cached_property
    def definitions(self) -> Definitions:
        return load_definitions(Path(self.env["SLIPWAY_FEATURE_REPO"]))

    @property
    def plan(self) -> VectorPlan:
        return self.definitions.services[SERVICE]

    def stream(self, *, ready: bool = True, **env: str) -> AbstractContextManager[Running]:
        return run_service("services.features", "stream", env=self.env | env, ready=ready)

    def serve(self, *, ready: bool = True, **env: str) -> AbstractContextManager[Running]:
        return run_service("services.features", "serve", env=self.env | env, ready=ready)

    def publish(self, events: Iterable[Upstream], *, again: bool = False, known: datetime | None = None) -> None:
        """Accepted events as ingestion would send them. `again`: copies, which the oracle does not count; `known`: when
        they became available, if that is not when upstream says."""
        self._topics()
        producer, sent = make_producer(self.kafka), []
        for event in events:
            record = self._record(event)
            if known:
                record.event.available_at.CopyFrom(to_proto(known))
            topic, key = events_topic(event.type).name, event.event_id.encode()
            sent.append(producer.send(topic, record.SerializeToString(), key))
            if not again:
                self.types.setdefault(event.type, []).append(_factual(record.event))
        producer.close()
        assert not any(future.failed() for future in sent)

    def watermark(self, moment: datetime) -> None:
        """On every partition of every events topic."""
        self._topics()
        producer, sent = make_producer(self.kafka), []
        value = EventRecord(watermark=Watermark(available_at=to_proto(moment))).SerializeToString()
        for name in self.definitions.event_types:
            topic = events_topic(name).name
            sent += [producer.send(topic, value, partition=number) for number in range(self.kafka.partitions)]
        producer.close()
        assert not any(future.failed() for future in sent)

    def store(self) -> redis.Redis:
        host, _, port = self.redis.partition(":")
        return redis.Redis(host, int(port))

    def stored_watermark(self) -> int:
        """Microseconds; 0: none."""
        with self.store() as client:
            return int(client.get("slipway:parcels:watermark") or 0)

    def reached(self, moment: datetime) -> bool:
        return self.stored_watermark() == to_us(moment)

    def stub(self, channel: grpc.Channel) -> features_pb2_grpc.FeaturesServiceStub:
        return features_pb2_grpc.FeaturesServiceStub(channel)

    def channel(self) -> grpc.Channel:
        address = f"127.0.0.1:{self.env['SLIPWAY_GRPC_PORT']}"
        return grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])

    def vectors(self, rows: Sequence[Row]) -> Answered:
        with self.channel() as channel:
            response = self.stub(channel).GetVectors(request_of(rows), timeout=20)
        shape = (len(rows), len(self.plan.features))
        return Answered(
            np.frombuffer(response.values, "<f4").reshape(shape),
            np.frombuffer(response.statuses, np.uint8).reshape(shape),
            from_proto(response.watermark) if response.HasField("watermark") else None,
        )

    def expected(self, row: Row) -> dict[str, Answer]:
        """The windowed features that the oracle gives, by name."""
        key = {"shop": row.shop, "courier": row.courier}
        answers: dict[str, Answer] = {}
        for view in self.plan.windowed:
            events = self.types.get(view.event_type, [])
            asked = ask(view, events, [key[name] for name in view.join_keys], to_us(row.as_of))
            answers |= {f"{view.name}__{name}": answer for name, answer in asked.items()}
        return answers

    def assert_right(self, rows: Sequence[Row]) -> None:
        """Values and statuses of every windowed feature are the oracle's."""
        found = self.vectors(rows)
        for number, row in enumerate(rows):
            expected = self.expected(row)
            for place, feature in enumerate(self.plan.features):
                if feature.name in expected:
                    want = expected[feature.name]
                    value = np.nan if want.value is None else want.value
                    np.testing.assert_allclose(
                        found.values[number, place], value, rtol=1e-6, err_msg=f"{feature} {row}"
                    )
                    assert found.statuses[number, place] == _STATUS[want.status], (feature, row)

    def _topics(self) -> None:
        ensure_topics(self.kafka, [events_topic(name).name for name in self.definitions.event_types])

    def _record(self, event: Upstream) -> EventRecord:
        document = json.loads(event.value)
        payload = self.definitions.event_types[event.type].payload.model_validate(document["data"])
        return EventRecord(
            event=Event(
                event_id=event.event_id,
                type=event.type,
                event_time=to_proto(parse_rfc3339(document["time"])),
                available_at=to_proto(parse_rfc3339(document["recordedtime"])),
                payload_json=payload.model_dump_json().encode(),
            )
        )


def request_of(rows: Sequence[Row], **changes: Mapping[str, object]) -> features_pb2.GetVectorsRequest:
    """The rows as a client would send them."""
    columns = {
        "courier": {"strings": [row.courier for row in rows]},
        "shop": {"strings": [row.shop for row in rows]},
        "pickup_at": {"strings": ["2024-03-01T15:30:00Z"] * len(rows)},
        "weight_kg": {"doubles": [2.5] * len(rows)},
    }
    return features_pb2.GetVectorsRequest(
        feature_service=SERVICE,
        columns=[features_pb2.Column(name=name, **lists) for name, lists in (columns | changes).items()],
        as_of_us=[to_us(row.as_of) for row in rows],
    )


def metric(running: Running, name: str, **labels: str) -> float:
    """The sum over the samples of a metric with these labels."""
    text = httpx.get(f"http://127.0.0.1:{running.ops_port}/metrics", trust_env=False).text
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name)
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(value) for key, value in samples if all(each in key for each in wanted))


def waiting_for(running: Running) -> dict[str, str]:
    """What /ready says."""
    body: dict[str, dict[str, str]] = httpx.get(f"http://127.0.0.1:{running.ops_port}/ready", trust_env=False).json()
    return body["waiting_for"]


def _factual(event: Event) -> FactualEvent:
    return FactualEvent(
        event.event_id,
        to_us(from_proto(event.event_time)),
        to_us(from_proto(event.available_at)),
        json.loads(event.payload_json),
    )
