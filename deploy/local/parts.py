"""How each part that is not ours is prepared and started: Kafka, Redis, MLflow. (Envoy: envoy.py)

`*_command` returns the command line; `prepare_*` writes what the part wants to find, once.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.local.home import KAFKA_JARS
from deploy.local.ports import LOOPBACK, address

KAFKA_HEAP = ("-Xms256m", "-Xmx512m")
_CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"

# No part reports to anybody.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "FEAST_USAGE": "False",
    "ORT_DISABLE_TELEMETRY": "1",
}


def prepare_kafka(folder: Path, port: int, controller_port: int) -> None:
    """Writes the broker's settings and formats its storage if it is new. Raises RuntimeError with Kafka's own words."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    properties = folder / "server.properties"
    properties.write_text(_kafka_properties(data, port, controller_port))
    (folder / "log4j2.properties").write_text(_KAFKA_LOGGING)
    if (data / "meta.properties").exists():
        return
    command = [*_java(folder), "kafka.tools.StorageTool", "format", "--cluster-id", _CLUSTER_ID]
    done = subprocess.run([*command, "--config", str(properties)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"Kafka could not format {data}: {done.stdout}{done.stderr}")


def kafka_command(folder: Path) -> list[str]:
    """One KRaft node, broker and controller in one, on loopback."""
    return [*_java(folder), "kafka.Kafka", str(folder / "server.properties")]


def redis_command(folder: Path, port: int) -> list[str]:
    """Redis with its append-only file in `folder`, which must exist."""
    return [
        *("redis-server", "--port", str(port), "--bind", LOOPBACK, "--dir", str(folder)),
        *("--appendonly", "yes", "--save", "", "--loglevel", "warning"),
    ]


def mlflow_command(folder: Path, port: int) -> list[str]:
    """MLflow's server with a SQLite store and proxied artifacts in `folder`, which must exist."""
    return [sys.executable, "-m", "deploy.local.mlflow_server", str(folder), str(port)]


def _java(folder: Path) -> list[str]:
    return [
        *("java", *KAFKA_HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4"),
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        *("-cp", f"{KAFKA_JARS}/*"),
    ]


def _kafka_properties(data: Path, port: int, controller_port: int) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{address(controller_port)}",
        "listeners": f"PLAINTEXT://{address(port)},CONTROLLER://{address(controller_port)}",
        "advertised.listeners": f"PLAINTEXT://{address(port)}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "num.partitions": 1,
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "log.retention.hours": -1,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


_KAFKA_LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.stdout.ref = stdout
appender.stdout.type = Console
appender.stdout.name = stdout
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = %d %-5p %m (%c{1})%n
"""
