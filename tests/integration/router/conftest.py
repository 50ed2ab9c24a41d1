"""One stage for each test: real Kafka, MLflow and Envoy, the router as a process, and stand-ins for its neighbours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from services.chassis.kafka import make_consumer, make_producer
from services.chassis.settings import KafkaSettings
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_rpc
from services.contracts.router.v1 import router_pb2, router_pb2_grpc
from services.contracts.training.v1 import training_pb2
from services.topics import RELEASES, TRAINING_RUNS
from tests.integration.router.parts import MODEL, Deployment, Envoy, Monitoring, Registry, running_envoy, serving
from tests.support import PARCELS, eventually, free_port, run_service
from tests.support.process import Running


@dataclass
class Stage:
    """What a test plays on."""

    kafka: KafkaSettings
    registry: Registry
    monitoring: Monitoring
    champion: Deployment
    challenger: Deployment
    envoy: Envoy
    env: dict[str, str]
    http: httpx.Client
    router: router_pb2_grpc.RouterServiceStub
    inference: v2_rpc.GRPCInferenceServiceStub
    stack: ExitStack
    sent: int = 0

    def start_router(self) -> Running:
        return self.stack.enter_context(run_service("services.router", env=self.env))

    def register(self) -> str:
        """A training run has registered a version and told so."""
        version = self.registry.register()
        self.tell_run(f"run-{version}", version)
        return version

    def tell_run(self, run_id: str, version: str) -> None:
        run = training_pb2.Run(run_id=run_id, model_version=version, state=training_pb2.RUN_STATE_REGISTERED)
        run.request.model = MODEL
        producer = make_producer(self.kafka)
        producer.send(TRAINING_RUNS.name, training_pb2.RunRecord(run=run).SerializeToString(), key=MODEL.encode())
        producer.flush()
        producer.close()

    def release(self, release_id: str = "") -> router_pb2.Release:
        return self.router.GetRelease(router_pb2.GetReleaseRequest(release_id=release_id), timeout=5).release

    def split(self) -> router_pb2.GetSplitResponse:
        return self.router.GetSplit(router_pb2.GetSplitRequest(), timeout=5)

    def infer(self, *metadata: tuple[str, str]) -> str:
        """One call through Envoy; its id."""
        self.sent += 1
        call_id = f"call-{self.sent}"
        request = v2.ModelInferRequest(model_name=MODEL, id=call_id)
        self.inference.ModelInfer(request, metadata=metadata, timeout=5)
        return call_id

    def wait_for(self, version: str, *, phase: str, weight: int | None = None) -> router_pb2.Release:
        """The release of a version, once it is in the phase and Envoy has its weight."""

        def reached() -> router_pb2.Release | None:
            releases = self.router.ListReleases(router_pb2.ListReleasesRequest(), timeout=5).releases
            found = next((each for each in releases if each.challenger_version == version), None)
            if found is None or router_pb2.Phase.Name(found.phase) != f"PHASE_{phase}":
                return None
            if weight is None:
                return found
            return found if found.challenger_weight == weight and self.split().applied else None

        return eventually(reached, f"release of version {version} is {phase} at {weight}")

    def first_champion(self) -> str:
        version = self.register()
        self.wait_for(version, phase="SUCCESSFUL", weight=0)
        eventually(lambda: self.registry.aliases == {"champion": version}, "the alias challenger is taken away")
        return version

    def records(self) -> list[router_pb2.Release]:
        """Everything on router.releases.v1."""
        consumer = make_consumer(self.kafka, "test", [RELEASES.name], group_id=None)
        try:
            polled = consumer.poll(timeout_ms=10_000)
            values = [record.value for records in polled.values() for record in records]
        finally:
            consumer.close()
        return [router_pb2.ReleaseRecord.FromString(value).release for value in values]


@pytest.fixture
def router(stage: Stage) -> Iterator[Running]:
    """The router's process; a test that fails shows what it wrote."""
    running = stage.start_router()
    yield running
    sys.stdout.write(running.output)


@pytest.fixture
def stage(kafka: KafkaSettings, mlflow_server: str, tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        registry, monitoring = Registry(mlflow_server), Monitoring()
        champion, challenger = Deployment("champion", registry), Deployment("challenger", registry)
        for servicer in (monitoring, champion, challenger):
            stack.enter_context(serving(servicer))
        http_port, grpc_port = free_port(), free_port()
        envoy = stack.enter_context(
            running_envoy(tmp_path, champion=champion.port, challenger=challenger.port, router=http_port)
        )
        env = {
            "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "SLIPWAY_FEATURE_REPO": str(PARCELS),
            "SLIPWAY_DATABASE": f"sqlite:///{tmp_path}/router.db",
            "SLIPWAY_MLFLOW": mlflow_server,
            "SLIPWAY_MONITORING": f"127.0.0.1:{monitoring.port}",
            "SLIPWAY_CHAMPION": f"127.0.0.1:{champion.port}",
            "SLIPWAY_CHALLENGER": f"127.0.0.1:{challenger.port}",
            "SLIPWAY_ENVOY_ADMIN": f"http://127.0.0.1:{envoy.admin_port}",
            "SLIPWAY_GRPC_PORT": str(grpc_port),
            "SLIPWAY_HTTP_PORT": str(http_port),
            "SLIPWAY_TICK_S": "0.05",
        }
        played = Stage(
            kafka=kafka,
            registry=registry,
            monitoring=monitoring,
            champion=champion,
            challenger=challenger,
            envoy=envoy,
            env=env,
            http=stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{http_port}", trust_env=False)),
            router=router_pb2_grpc.RouterServiceStub(stack.enter_context(_channel(grpc_port))),
            inference=v2_rpc.GRPCInferenceServiceStub(stack.enter_context(_channel(envoy.port))),
            stack=stack,
        )
        yield played


def _channel(port: int) -> Any:
    # A server that starts anew is found at once.
    options = [("grpc.max_reconnect_backoff_ms", 100), ("grpc.enable_http_proxy", 0)]
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
