"""The platform that is measured: the laptop's own process list, without what no prediction needs, on chosen cores.

Everything is real: events went through Kafka and ingestion into Redis, the model came from MLflow, the split from the
router. Training, monitoring and the lake are not started.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.local import supervise
from deploy.local.envoy import envoy_command, envoy_config
from deploy.local.ports import address
from deploy.local.probes import http_ready
from deploy.local.processes import Platform, Process, processes
from loadtests.ceilings import entity, serving
from loadtests.ceilings.model import Served, forest
from loadtests.ceilings.processes import free_port, started, wait_ready
from loadtests.replay import Plan, Replay
from loadtests.upstream import Source
from services.chassis.errors import Unavailable
from services.chassis.settings import KafkaSettings
from services.problem import load_recipe

MEASURED = ("redis", "envoy", "features", "inference-champion", "inference-challenger")
BESIDE = ("kafka", "mlflow", "ingestion", "features-stream", "router")
REAL = "Kafka, Redis, MLflow, Envoy, ingestion, features, router, both deployments of inference"
STAND_INS = "none; training, monitoring and the lake are not started"

_READY_S = 120.0
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """The platform with a champion, a challenger, a split between them, and a question that it can answer."""

    platform: Platform
    pids: Mapping[str, int]
    model: Served
    entity_request: bytes
    entity_vector: NDArray[np.float32]
    """What the features service gives for that question, float32 [1, width]."""

    def pids_of(self, *names: str) -> dict[str, int]:
        """Of these processes, by name."""
        return {name: self.pids[name] for name in names}


@contextmanager
def running(
    platform: Platform, source: Source, *, server_core: int | None, other_core: int | None, tell: Tell
) -> Iterator[Running]:
    """From an empty folder to a model that serves; the folder is removed at the end.

    Raises Unavailable, naming what is in the way or did not start.
    """
    root = platform.home.root
    if root.exists():
        raise Unavailable(f"{root} exists; it is made and removed here, so name a folder that is not there yet")
    if obstacles := supervise.obstacles(platform):
        raise Unavailable("\n".join(obstacles))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        supervise.prepare(platform)
        pids = {}
        for process in processes(platform):
            if process.name in (*MEASURED, *BESIDE):
                tell(f"starts {process.name}")
                core = server_core if process.name in MEASURED else other_core
                pids[process.name] = _start(stack, platform, process, core)
        tell("plays the events")
        _play(platform, source)
        yield _with_model(platform, source, pids, tell)


@contextmanager
def second_envoy(platform: Platform, core: int | None) -> Iterator[tuple[int, int]]:
    """Another Envoy on the router's routes, which knows no fast lane; its port and pid."""
    ports, logs, port, admin = platform.ports, platform.home.logs, free_port(), free_port()
    bootstrap = platform.home.run / "second-envoy.json"
    config = envoy_config(
        listen=address(port),
        admin=address(admin),
        champion=address(ports.inference_champion_grpc),
        challenger=address(ports.inference_challenger_grpc),
        router=address(ports.router_http),
    )
    bootstrap.write_text(json.dumps(config))
    with started("second-envoy", envoy_command(bootstrap), environment={}, core=core, folder=logs) as process:
        wait_ready("second-envoy", process, http_ready(admin), _READY_S, logs)
        yield port, process.pid


def _start(stack: ExitStack, platform: Platform, process: Process, core: int | None) -> int:
    logs = platform.home.logs
    running = stack.enter_context(
        started(process.name, process.command, environment=process.environment, core=core, folder=logs)
    )
    wait_ready(process.name, running, process.ready, _READY_S, logs)
    return running.pid


def _play(platform: Platform, source: Source) -> None:
    plan = Plan(
        source=source,
        feature_repo=platform.feature_repo,
        state=platform.home.run / "position.json",
        kafka=KafkaSettings(bootstrap_servers=address(platform.ports.kafka)),
        features=address(platform.ports.features_grpc),
        inference=address(platform.ports.envoy),
    )
    with Replay(plan) as replay:
        replay.run(source.ends, predict=False)


def _with_model(platform: Platform, source: Source, pids: Mapping[str, int], tell: Tell) -> Running:
    recipe, ports = load_recipe(platform.feature_repo), platform.ports
    asked = entity.ask_features(address(ports.features_grpc), platform.feature_repo, source)
    width = len(asked.schema.features)
    model = Served(recipe.name, platform.home.run / "model.onnx", width)
    model.onnx.write_bytes(forest(width))
    tell("registers the model, and releases it to some so that Envoy splits")
    serving.register(f"http://{address(ports.mlflow)}", recipe, asked.schema, model.onnx)
    serving.wait_served(address(ports.inference_champion_grpc), recipe.name)
    serving.split(address(ports.router_grpc), recipe.name)
    request = entity.request(address(ports.envoy), recipe.name, asked.question)
    return Running(platform, pids, model, request, asked.vector)
