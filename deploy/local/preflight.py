"""What must hold before anything starts, each with a sentence that says what to do."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

from deploy.local.home import KAFKA_JARS
from deploy.local.ports import LOOPBACK
from deploy.local.processes import Platform, Process, processes

FREE_BYTES = 3 * 1024**3
JAVA_AT_LEAST = 17


def problems(platform: Platform) -> list[str]:
    """Everything that stands in the way; empty when the platform can start."""
    found = [_java_problem(), _redis_problem(), _jars_problem(), _disk_problem(platform.home.root)]
    found += [problem for process in processes(platform) for problem in _port_problems(process)]
    return [problem for problem in found if problem is not None]


def _java_problem() -> str | None:
    try:
        shown = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    except FileNotFoundError:
        return f"Java is missing: Kafka needs {JAVA_AT_LEAST} or newer. Debian: apt-get install openjdk-17-jre-headless"
    version = re.search(r'version "(\d+)', shown)
    if version is None or int(version[1]) < JAVA_AT_LEAST:
        said = shown.splitlines()[0] if shown else "nothing"
        return f"Java is too old: Kafka needs version {JAVA_AT_LEAST} or newer, `java -version` says: {said}"
    return None


def _redis_problem() -> str | None:
    if shutil.which("redis-server"):
        return None
    return "redis-server is missing. Run `make setup` as root, or: apt-get install redis-server"


def _jars_problem() -> str | None:
    if any(KAFKA_JARS.glob("kafka_*.jar")):
        return None
    return f"Kafka's jars are missing in {KAFKA_JARS}. Run `make setup`"


def _disk_problem(home: Path) -> str | None:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free >= FREE_BYTES:
        return None
    return (
        f"the disk of {existing} has {free / 1024**3:.1f} GiB free, the platform needs {FREE_BYTES / 1024**3:.0f}. "
        "Make room, or set SLIPWAY_HOME to a folder elsewhere"
    )


def _port_problems(process: Process) -> list[str]:
    return [
        f"port {port} ({process.name}) is in use. Stop what uses it (`ss -ltnp 'sport = :{port}'` names it), "
        "or set SLIPWAY_PORT_OFFSET=1000 to move all of our ports"
        for port in process.ports.values()
        if _in_use(port)
    ]


def _in_use(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return True
    return False
