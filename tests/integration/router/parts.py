"""The parts that the router moves: a real Envoy, and stand-ins for monitoring and for the two deployments."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx

from deploy.local.envoy import envoy_command, envoy_config
from services.chassis.clock import to_proto
from services.contracts.monitoring.v1 import monitoring_pb2, monitoring_pb2_grpc
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_rpc
from tests.support import free_port

MODEL = "parcel-delay"
T0 = datetime(2024, 3, 1, tzinfo=UTC)
_API = "/api/2.0/mlflow"


class Registry:
    """MLflow, as training and people use it."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=20)

    def register(self) -> str:
        """A new version with the alias challenger, as training leaves it."""
        self._http.post(f"{_API}/registered-models/create", json={"name": MODEL})
        body = {"name": MODEL, "source": "s3://nowhere/model"}
        created = self._http.post(f"{_API}/model-versions/create", json=body).raise_for_status().json()
        version = str(created["model_version"]["version"])
        self.set_alias("challenger", version)
        return version

    def set_alias(self, alias: str, version: str) -> None:
        body = {"name": MODEL, "alias": alias, "version": version}
        self._http.post(f"{_API}/registered-models/alias", json=body).raise_for_status()

    @property
    def aliases(self) -> dict[str, str]:
        answer = self._http.get(f"{_API}/registered-models/get", params={"name": MODEL})
        if answer.is_error:
            return {}
        listed = answer.json()["registered_model"].get("aliases", [])
        return {entry["alias"]: str(entry["version"]) for entry in listed}


class Deployment(v2_rpc.GRPCInferenceServiceServicer):
    """Serves whatever version its alias names, at once, unless it is `stuck`; `failing`: answers INTERNAL."""

    def __init__(self, variant: str, registry: Registry) -> None:
        self._variant = variant
        self._registry = registry
        self.served_to: dict[str, dict[str, str]] = {}
        """Metadata of calls by request id."""
        self.failing = False
        self.stuck = False
        self.port = 0

    def ModelReady(self, request: v2.ModelReadyRequest, context: grpc.ServicerContext) -> v2.ModelReadyResponse:
        loaded = not self.stuck and self._registry.aliases.get(self._variant) == request.version
        return v2.ModelReadyResponse(ready=loaded)

    def ModelInfer(self, request: v2.ModelInferRequest, context: grpc.ServicerContext) -> v2.ModelInferResponse:
        if self.failing:
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        self.served_to[request.id] = dict(context.invocation_metadata())
        return v2.ModelInferResponse(model_name=self._variant, id=request.id)


@dataclass
class Arm:
    labels: int
    log_loss: float
    se: float = 0.01


@dataclass
class Monitoring(monitoring_pb2_grpc.MonitoringServiceServicer):
    """Tells `arms` by (version, variant), the same at each of `weights`; `down`: answers UNAVAILABLE."""

    watermark: datetime | None = T0
    arms: dict[tuple[str, str], Arm] = field(default_factory=dict)
    weights: tuple[int, ...] = (2500, 10_000)
    down: bool = False
    asked: int = 0
    port: int = 0

    def GetQuality(self, request: Any, context: grpc.ServicerContext) -> monitoring_pb2.GetQualityResponse:
        self.asked += 1
        if self.down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "down for the test")
        answer = monitoring_pb2.GetQualityResponse()
        if self.watermark is not None:
            answer.watermark.CopyFrom(to_proto(self.watermark))
        for weight, ((version, variant), arm) in itertools.product(self.weights, self.arms.items()):
            answer.windows.add(
                model_version=version,
                variant=variant,
                challenger_weight=weight,
                labels=arm.labels,
                log_loss=arm.log_loss,
                log_loss_se=arm.se,
            )
        return answer

    def pass_time(self, hours: float) -> None:
        assert self.watermark is not None
        self.watermark += timedelta(hours=hours)

    def tell(self, champion: str, challenger: str, *, increase: float) -> None:
        """Enough labels of both arms; the challenger's log loss is `increase` above the champion's."""
        self.arms[champion, "champion"] = Arm(labels=100, log_loss=0.4)
        self.arms[challenger, "challenger"] = Arm(labels=100, log_loss=0.4 + increase)


@contextmanager
def serving(servicer: Deployment | Monitoring) -> Iterator[None]:
    """A gRPC server for a stand-in; sets its port."""
    server = grpc.server(ThreadPoolExecutor(8))
    if isinstance(servicer, Deployment):
        v2_rpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    else:
        monitoring_pb2_grpc.add_MonitoringServiceServicer_to_server(servicer, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


@dataclass(frozen=True)
class Envoy:
    port: int
    admin_port: int
    pid: int

    def stats(self, pattern: str) -> dict[str, int]:
        url = f"http://127.0.0.1:{self.admin_port}/stats"
        answer = httpx.get(url, params={"filter": pattern, "format": "json"}, trust_env=False).json()
        return {stat["name"]: stat["value"] for stat in answer["stats"] if "name" in stat}


@contextmanager
def running_envoy(folder: Path, *, upstream_http1: bool = False, **ports: int) -> Iterator[Envoy]:
    """`ports` of champion, challenger and router, as in `envoy_config`."""
    port, admin_port = free_port(), free_port()
    addresses = {name: f"127.0.0.1:{number}" for name, number in ports.items()}
    config = envoy_config(listen=f"127.0.0.1:{port}", admin=f"127.0.0.1:{admin_port}", **addresses)
    if upstream_http1:
        for cluster in config["static_resources"]["clusters"]:
            cluster.pop("typed_extension_protocol_options", None)
    bootstrap = folder / "envoy.json"
    bootstrap.write_text(json.dumps(config))
    with (folder / "envoy.log").open("w") as log, subprocess.Popen(envoy_command(bootstrap), stderr=log) as process:
        try:
            yield Envoy(port, admin_port, process.pid)
        finally:
            process.terminate()
