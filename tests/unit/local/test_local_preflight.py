"""What stands in the way of a start is said before anything starts, with what to do."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import preflight
from tests.unit.local.platforms import platform

TOOLS = {"java": "echo 'openjdk version \"17.0.1\"' >&2", "redis-server": "true"}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH: a Java 17 and a Redis."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in TOOLS.items():
        _put(folder, name, script)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kafka's jars, as `make setup` leaves them."""
    folder = tmp_path / "jars"
    folder.mkdir()
    (folder / "kafka_2.13-4.1.1.jar").touch()
    monkeypatch.setattr(preflight, "KAFKA_JARS", folder)
    return folder


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody else's socket."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield made


def _put(folder: Path, name: str, script: str) -> None:
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


@pytest.mark.usefixtures("tools", "jars")
def test_a_machine_that_has_everything_may_start(tmp_path: Path) -> None:
    assert preflight.problems(platform(tmp_path)) == []


@pytest.mark.usefixtures("jars")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "Java is missing: Kafka needs 17 or newer. Debian: apt-get install openjdk-17-jre-headless"),
        ("echo 'openjdk version \"11.0.2\"' >&2", "Java is too old: Kafka needs version 17 or newer"),
        ("echo 'java version \"1.8.0_202\"' >&2", "Java is too old"),
        ("true", "`java -version` says: nothing"),
    ],
    ids=["missing", "11", "8", "mute"],
)
def test_java_that_is_missing_or_old_is_said(tmp_path: Path, tools: Path, script: str | None, words: str) -> None:
    (tools / "java").unlink()
    if script is not None:
        _put(tools, "java", script)

    (problem,) = preflight.problems(platform(tmp_path))

    assert words in problem


@pytest.mark.usefixtures("jars")
def test_redis_that_is_missing_is_said(tmp_path: Path, tools: Path) -> None:
    (tools / "redis-server").unlink()

    (problem,) = preflight.problems(platform(tmp_path))

    assert "apt-get install redis-server" in problem


@pytest.mark.usefixtures("tools")
def test_jars_that_are_missing_are_said(tmp_path: Path, jars: Path) -> None:
    shutil.rmtree(jars)

    (problem,) = preflight.problems(platform(tmp_path))

    assert "Run `make setup`" in problem


@pytest.mark.usefixtures("tools", "jars")
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_said_with_its_number_and_process(tmp_path: Path, listener: socket.socket, host: str) -> None:
    asked = platform(tmp_path)
    listener.bind((host, asked.ports.router_grpc))
    listener.listen()

    (problem,) = preflight.problems(asked)

    assert f"port {asked.ports.router_grpc} (router) is in use" in problem
    assert "SLIPWAY_PORT_OFFSET" in problem


@pytest.mark.usefixtures("tools", "jars")
def test_a_disk_that_is_nearly_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(preflight, "FREE_BYTES", free + 1024**3)

    (problem,) = preflight.problems(platform(tmp_path / "not" / "there" / "yet"))

    assert f"the disk of {tmp_path} has" in problem
    assert "SLIPWAY_HOME" in problem
