"""The real parts that tests stand on: one Kafka, one Redis, one MLflow per session, emptied before each test.

A part that cannot start fails the test with the end of its log; nothing is skipped.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import parts as local_parts
from deploy.local import probes
from services.chassis.kafka import wait_for_kafka
from services.chassis.settings import KafkaSettings
from tests.support.parts import empty_kafka, empty_mlflow, empty_redis, free_port
from tests.support.process import Running, start_process

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start: that would be tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _part(command: list[str], ready: probes.Probe, timeout_s: float) -> Iterator[Running]:
    running = start_process(command, env={}, ops_port=0)
    try:
        running.wait_ready(ready, timeout_s)
        yield running
    finally:
        running.kill()
        running.log.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """The session's broker. Tests take `kafka`."""
    folder, port = tmp_path_factory.mktemp("kafka"), free_port()
    local_parts.prepare_kafka(folder, port, free_port())
    for _ in _part(local_parts.kafka_command(folder), probes.tcp_open(port), 60.0):
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")
        wait_for_kafka(settings)
        yield settings


@pytest.fixture
def kafka(kafka_broker: KafkaSettings) -> KafkaSettings:
    """A real broker without any topic or group."""
    empty_kafka(kafka_broker)
    return kafka_broker


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's Redis. Tests take `redis_server`."""
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    for _ in _part(local_parts.redis_command(folder, port), probes.redis_pong(port), 20.0):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def redis_server(redis_process: str) -> str:
    """`host:port` of a real Redis without any key."""
    empty_redis(redis_process)
    return redis_process


@pytest.fixture(scope="session")
def mlflow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's MLflow server. Tests take `mlflow_server`."""
    folder: Path = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    for _ in _part(local_parts.mlflow_command(folder, port), probes.http_ready(port, "/health"), 90.0):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def mlflow_server(mlflow_process: str) -> str:
    """URL of a real MLflow server without registered models and runs."""
    empty_mlflow(mlflow_process)
    return mlflow_process
