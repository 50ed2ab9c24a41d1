"""The parts alone under supervisord: started, killed, started again with their data, stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.local import supervise
from deploy.local.ports import address
from deploy.local.processes import Platform, processes
from services.chassis.kafka import ensure_topics, make_consumer
from services.chassis.settings import KafkaSettings
from tests.integration.local.platforms import free_platform, listening
from tests.support import eventually

PARTS = {"kafka", "redis", "mlflow", "envoy"}
READY_S = 240.0


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Prepared; stopped at the end, whatever happens."""
    made = free_platform(tmp_path)
    _prepare(made)
    yield made
    supervise.stop(made)


def _prepare(platform: Platform) -> None:
    supervise.prepare(platform)
    parts = [process for process in processes(platform) if process.name in PARTS]
    (platform.home.run / "supervisord.conf").write_text(supervise.configuration(platform, parts))


def _start(platform: Platform) -> None:
    supervise.start(platform)
    eventually(lambda: _ready(platform) >= PARTS, f"{PARTS} are ready", READY_S)


def _ready(platform: Platform) -> set[str]:
    return {each.name for each in supervise.status(platform) if each.ready}


def _kafka(platform: Platform) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=address(platform.ports.kafka))


def _redis(platform: Platform) -> redis.Redis:
    return redis.Redis("127.0.0.1", platform.ports.redis)


@pytest.mark.timeout(600)
def test_a_killed_manager_leaves_nothing_behind_and_the_next_start_finds_the_data(platform: Platform) -> None:
    _start(platform)
    ensure_topics(_kafka(platform), ["probe.thing.v1"])
    with _redis(platform) as client:
        client.set("key", "value")

    supervise.kill(platform)
    eventually(lambda: not listening(platform), "nothing listens after the kill")
    assert {each.state for each in supervise.status(platform)} == {"STOPPED"}

    _prepare(platform)
    _start(platform)
    with _redis(platform) as client:
        assert client.get("key") == b"value"
    consumer = make_consumer(_kafka(platform), None, ())
    assert "probe.thing.v1" in consumer.topics()
    consumer.close()

    supervise.stop(platform)
    assert listening(platform) == []
    assert supervise.manager_pid(platform) is None
