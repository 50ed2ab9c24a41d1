"""The process list of a laptop: every process, its command, its environment and how to tell that it is ready."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import parts, probes
from deploy.local.envoy import envoy_command
from deploy.local.home import REPOSITORY, Home, local_feature_repo, local_home
from deploy.local.ports import LOOPBACK, Ports, address, local_ports
from services.chassis.errors import Invalid
from services.problem import load_recipe

SERVICES = (
    "ingestion",
    "lake",
    "features-stream",
    "features",
    "training",
    "inference-champion",
    "inference-challenger",
    "router",
    "monitoring",
)


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the platform. A higher `rank` starts later and stops earlier."""

    name: str
    command: list[str]
    ready: probes.Probe
    ports: Mapping[str, int]
    rank: int
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_s: int = 10


@dataclass(frozen=True, slots=True)
class Platform:
    """What the process list is made for."""

    home: Home
    ports: Ports
    feature_repo: Path
    fast_lane: bool = True

    @property
    def envoy_bootstrap(self) -> Path:
        """Envoy's rendered configuration."""
        return self.home.run / "envoy.json"


def local_platform() -> Platform:
    """The one that SLIPWAY_HOME, _PORT_OFFSET, _FEATURE_REPO and _FAST_LANE name. Raises Invalid."""
    return Platform(local_home(), local_ports(), local_feature_repo(), local_fast_lane())


def local_fast_lane() -> bool:
    """Whether ModelInfer goes over the fast lane: SLIPWAY_FAST_LANE, `true` (default) or `false`. Raises Invalid."""
    told = os.environ.get("SLIPWAY_FAST_LANE", "true")
    if told not in ("true", "false"):
        raise Invalid(f"SLIPWAY_FAST_LANE: expected true or false, got {told!r}")
    return told == "true"


def processes(platform: Platform) -> list[Process]:
    """All processes, in the order in which they start."""
    return [*_parts(platform), *_services(platform)]


def _parts(platform: Platform) -> list[Process]:
    home, ports = platform.home, platform.ports
    return [
        Process(
            "kafka", parts.kafka_command(home.kafka), probes.tcp_open(ports.kafka), ports.of("kafka"), rank=1, stop_s=30
        ),
        Process(
            "redis",
            parts.redis_command(home.redis, ports.redis),
            probes.redis_pong(ports.redis),
            ports.of("redis"),
            rank=1,
        ),
        Process(
            "mlflow",
            parts.mlflow_command(home.mlflow, ports.mlflow),
            probes.http_ready(ports.mlflow, "/health"),
            ports.of("mlflow"),
            rank=1,
            environment=parts.QUIET | {"PYTHONPATH": str(REPOSITORY)},
        ),
        Process(
            "envoy",
            envoy_command(platform.envoy_bootstrap),
            probes.http_ready(ports.envoy_admin),
            ports.of("envoy"),
            rank=1,
        ),
    ]


def _services(platform: Platform) -> list[Process]:
    home = platform.home
    model = load_recipe(platform.feature_repo).name
    return [
        _service(platform, "ingestion", "ingestion", "accept", SLIPWAY_AVAILABILITY="recordedtime"),
        _service(platform, "lake", "ingestion", "lake"),
        _service(platform, "features-stream", "features", "stream"),
        _service(platform, "features", "features", "serve", SLIPWAY_TRAINING_SETS=str(home.training_sets)),
        _service(platform, "training", "training", SLIPWAY_TRAINING_STATE=str(home.state("training"))),
        *(
            _service(
                platform,
                f"inference-{variant}",
                "inference",
                SLIPWAY_MODEL=model,
                SLIPWAY_VARIANT=variant,
                SLIPWAY_FAST_LANE=str(platform.fast_lane).lower(),
                SLIPWAY_MODEL_CACHE=str(home.state(f"inference-{variant}")),
            )
            for variant in ("champion", "challenger")
        ),
        _service(platform, "router", "router", SLIPWAY_DATABASE=home.database("router")),
        _service(
            platform,
            "monitoring",
            "monitoring",
            SLIPWAY_DATABASE=home.database("monitoring"),
            SLIPWAY_OPS=json.dumps(_ops_addresses(platform.ports)),
        ),
    ]


def _ops_addresses(ports: Ports) -> dict[str, str]:
    return {name: address(ports.of(name)["ops"]) for name in SERVICES}


def _service(platform: Platform, name: str, package: str, *role: str, **environment: str) -> Process:
    own_ports = platform.ports.of(name)
    ports = {f"SLIPWAY_{kind.upper()}_PORT": str(port) for kind, port in own_ports.items()}
    return Process(
        name,
        [sys.executable, "-m", f"services.{package}", *role],
        probes.http_ready(own_ports["ops"]),
        own_ports,
        rank=2,
        environment=shared_environment(platform) | ports | environment,
    )


def shared_environment(platform: Platform) -> dict[str, str]:
    """The settings that several services share; the names are those of deploy/k8s/base/slipway.env."""
    home, ports = platform.home, platform.ports
    return {
        **parts.QUIET,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(REPOSITORY),
        "SLIPWAY_HOST": LOOPBACK,
        "SLIPWAY_FEATURE_REPO": str(platform.feature_repo),
        "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": address(ports.kafka),
        "SLIPWAY_REDIS": address(ports.redis),
        "SLIPWAY_REGISTRY": str(home.registry),
        "SLIPWAY_LAKE": str(home.lake),
        "SLIPWAY_MLFLOW": f"http://{address(ports.mlflow)}",
        "SLIPWAY_FEATURES": address(ports.features_grpc),
        "SLIPWAY_MONITORING": address(ports.monitoring_grpc),
        "SLIPWAY_ROUTER": address(ports.router_grpc),
        "SLIPWAY_TRAINING": address(ports.training_grpc),
        "SLIPWAY_CHAMPION": address(ports.inference_champion_grpc),
        "SLIPWAY_CHALLENGER": address(ports.inference_challenger_grpc),
        "SLIPWAY_ENVOY_ADMIN": f"http://{address(ports.envoy_admin)}",
        "SLIPWAY_LOG_LEVEL": os.environ.get("SLIPWAY_LOG_LEVEL", "INFO"),
        "SLIPWAY_LOG_FORMAT": "json",
    }
