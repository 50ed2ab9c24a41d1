"""One stage for each test: real Kafka and MLflow, training as a process, and a features service in the test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from kafka import TopicPartition
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities.model_registry import ModelVersion

from services.chassis.clock import to_proto
from services.chassis.kafka import ensure_topics, make_consumer, make_producer
from services.chassis.settings import KafkaSettings
from services.contracts.training.v1 import training_pb2 as pb
from services.contracts.training.v1 import training_pb2_grpc as rpc
from services.topics import TRAINING_REQUESTS, TRAINING_RUNS
from tests.integration.training.parts import MODEL, T0, Features, serving
from tests.support import PARCELS, eventually, free_port, run_service
from tests.support.process import Running

ENDED = (pb.RUN_STATE_REGISTERED, pb.RUN_STATE_REFUSED, pb.RUN_STATE_ERROR)


def request(
    request_id: str, *, begin: datetime = T0, days: float = 10, model: str = MODEL, **told: str
) -> pb.RetrainRequest:
    asked = pb.RetrainRequest(request_id=request_id, model=model, to=to_proto(begin + timedelta(days=days)), **told)
    getattr(asked, "from").CopyFrom(to_proto(begin))
    return asked


def waiting_for(ops_port: int) -> dict[str, str]:
    """The parts that /ready names and why."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{ops_port}/ready", trust_env=False)
    except httpx.TransportError as error:
        raise AssertionError(f"no answer yet: {error}") from error
    return dict(answer.json()["waiting_for"])


@dataclass
class Stage:
    """What a test plays on."""

    kafka: KafkaSettings
    features: Features
    mlflow: MlflowClient
    env: dict[str, str]
    training: rpc.TrainingServiceStub
    stack: ExitStack
    processes: list[Running] = field(default_factory=list)

    def start(self, *, ready: bool = True, **env: str) -> Running:
        running = self.stack.enter_context(run_service("services.training", env=self.env | env, ready=ready))
        self.processes.append(running)
        return running

    def send(self, *requests: pb.RetrainRequest) -> None:
        """As monitoring does."""
        ensure_topics(self.kafka, [TRAINING_REQUESTS.name])
        producer = make_producer(self.kafka)
        for one in requests:
            producer.send(TRAINING_REQUESTS.name, key=one.model.encode(), value=one.SerializeToString())
        producer.flush()
        producer.close()

    def ask(self, asked: pb.RetrainRequest) -> str:
        """As a person does; the run's id."""
        return str(self.training.StartRun(pb.StartRunRequest(request=asked), timeout=10).run_id)

    def runs(self) -> list[pb.Run]:
        return list(self.training.ListRuns(pb.ListRunsRequest(), timeout=10).runs)

    def run_of(self, request_id: str) -> pb.Run | None:
        return next((run for run in self.runs() if run.request.request_id == request_id), None)

    def ended(self, request_id: str) -> pb.Run:
        """The request's run, once it has ended."""

        def found() -> pb.Run | None:
            run = self.run_of(request_id)
            return run if run is not None and run.state in ENDED else None

        return eventually(found, f"the run of {request_id} ends", 90)

    def records(self) -> list[pb.Run]:
        """Everything on training.runs.v1 by now."""
        consumer = make_consumer(self.kafka, "test", [], group_id=None)
        try:
            consumer.assign([TopicPartition(TRAINING_RUNS.name, 0)])
            consumer.seek_to_beginning()
            polled = consumer.poll(timeout_ms=3000)
        finally:
            consumer.close()
        return [pb.RunRecord.FromString(record.value).run for records in polled.values() for record in records]

    def told(self, *states: int) -> list[pb.Run]:
        """The records, once they say so in this order."""

        def read() -> list[pb.Run]:
            found = self.records()
            assert [run.state for run in found] == list(states)
            return found

        return eventually(read, "the records of the runs are on Kafka")

    def versions(self) -> list[ModelVersion]:
        return list(self.mlflow.search_model_versions(f"name = '{MODEL}'"))

    def aliases(self) -> dict[str, str]:
        return dict(self.mlflow.get_registered_model(MODEL).aliases)

    def mlflow_runs(self) -> list[MlflowRun]:
        """The runs that are no trial."""
        experiment = self.mlflow.get_experiment_by_name(MODEL)
        if experiment is None:
            return []
        found = self.mlflow.search_runs([experiment.experiment_id])
        return [run for run in found if "mlflow.parentRunId" not in run.data.tags]


@pytest.fixture
def stage(kafka: KafkaSettings, mlflow_server: str, tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        features = stack.enter_context(serving(Features(tmp_path)))
        grpc_port = free_port()
        env = {
            "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "SLIPWAY_FEATURE_REPO": str(PARCELS),
            "SLIPWAY_TRAINING_STATE": str(tmp_path / "state"),
            "SLIPWAY_MLFLOW": mlflow_server,
            "SLIPWAY_FEATURES": f"127.0.0.1:{features.port}",
            "SLIPWAY_GRPC_PORT": str(grpc_port),
        }
        played = Stage(
            kafka=kafka,
            features=features,
            mlflow=MlflowClient(mlflow_server),
            env=env,
            training=rpc.TrainingServiceStub(stack.enter_context(_channel(grpc_port))),
            stack=stack,
        )
        yield played
        # A test that fails shows what the processes wrote.
        for running in played.processes:
            sys.stdout.write(running.output)


def _channel(port: int) -> Any:
    # A server that starts anew is found at once.
    options = [("grpc.max_reconnect_backoff_ms", 100), ("grpc.enable_http_proxy", 0)]
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
