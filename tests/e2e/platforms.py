"""Whole platforms for tests: each with folders and ports of its own, on the parcels problem."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc

from deploy.local import preflight, supervise
from deploy.local.home import REPOSITORY, Home
from deploy.local.ports import Ports, address
from deploy.local.processes import Platform
from loadtests.replay import Plan
from loadtests.upstream import Source
from services.chassis.clock import to_us
from services.chassis.settings import KafkaSettings
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from tests.problems.parcels.upstream import COURIERS, SHOPS
from tests.support import PARCELS

READY_WITHIN_S = 180.0
_OFFSETS = range(11_000, 45_000, 1_000)


@contextmanager
def running_platform(folder: Path) -> Iterator[Platform]:
    """Started and ready; stopped at the end, whatever happens."""
    platform = _free_platform(folder)
    supervise.prepare(platform)
    try:
        start(platform)
        yield platform
    finally:
        supervise.stop(platform)


def start(platform: Platform) -> None:
    """Returns when every process is ready; fails with the last lines of those that are not."""
    supervise.start(platform)
    try:
        supervise.wait_ready(platform, READY_WITHIN_S, lambda _: None)
    except TimeoutError as error:
        late = [each.name for each in supervise.status(platform) if not each.ready]
        logs = "\n".join(f"-- {name}\n{_last_lines(platform, name)}" for name in late)
        raise AssertionError(f"{error}\n{logs}") from None


def plan(platform: Platform, source: Source, **options: Any) -> Plan:
    """A replay of `source` against this platform."""
    return Plan(
        source=source,
        feature_repo=platform.feature_repo,
        state=platform.home.root / "replay.json",
        kafka=kafka_of(platform),
        features=address(platform.ports.features_grpc),
        inference=address(platform.ports.envoy),
        **options,
    )


def kafka_of(platform: Platform) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=address(platform.ports.kafka))


@contextmanager
def replay_process(platform: Platform, source: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m loadtests.replay` as a process, with the position file that `plan` uses."""
    command = [sys.executable, "-m", "loadtests.replay", "--source", source, *options]
    state = ["--state", str(platform.home.root / "replay.json")]
    environment = os.environ | _environment(platform)
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command, *state], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def vectors(platform: Platform, as_of: datetime) -> tuple[bytes, bytes]:
    """Values and statuses of every courier at every shop, as of one moment."""
    pairs = [(f"courier-{courier}", f"shop-{shop}") for courier in range(COURIERS) for shop in range(SHOPS)]
    request = features_pb2.GetVectorsRequest(
        feature_service="parcel_delay_v1",
        columns=[
            features_pb2.Column(name="courier", strings=[courier for courier, _ in pairs]),
            features_pb2.Column(name="shop", strings=[shop for _, shop in pairs]),
            features_pb2.Column(name="pickup_at", strings=["2024-03-05T12:00:00Z"] * len(pairs)),
            features_pb2.Column(name="weight_kg", doubles=[1.0] * len(pairs)),
        ],
        as_of_us=[to_us(as_of)] * len(pairs),
    )
    with grpc.insecure_channel(address(platform.ports.features_grpc)) as channel:
        answer = features_pb2_grpc.FeaturesServiceStub(channel).GetVectors(request, timeout=20)
    return answer.values, answer.statuses


def _free_platform(folder: Path) -> Platform:
    """At the first offset, from a random one on, whose ports nobody uses."""
    offsets = list(_OFFSETS)
    random.SystemRandom().shuffle(offsets)
    problems: list[str] = []
    for offset in offsets:
        platform = Platform(Home(folder), Ports().moved(offset), PARCELS)
        problems = preflight.problems(platform)
        if not problems:
            return platform
    raise AssertionError(f"no platform can start here: {'; '.join(problems)}")


def _environment(platform: Platform) -> Mapping[str, str]:
    offset = platform.ports.kafka - Ports().kafka
    return {
        "PYTHONPATH": str(REPOSITORY),
        "SLIPWAY_HOME": str(platform.home.root),
        "SLIPWAY_PORT_OFFSET": str(offset),
        "SLIPWAY_FEATURE_REPO": str(platform.feature_repo),
    }


def _last_lines(platform: Platform, process: str) -> str:
    path = platform.home.logs / f"{process}.log"
    return path.read_text(errors="replace")[-3000:] if path.exists() else "no log"
