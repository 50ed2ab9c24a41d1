"""Starts, stops and asks about the processes of a laptop, by supervisord (decision 0001).

supervisord keeps the processes: it restarts what dies, stops in the reverse order of starting, and writes a log file
for each. Its socket and pid file lie under `<home>/run`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from deploy.local import parts, preflight
from deploy.local.envoy import envoy_config
from deploy.local.ports import address
from deploy.local.processes import Platform, Process, processes

STOP_TIMEOUT_S = 90.0
_LOG_BYTES = "20MB"
_ALIVE = frozenset({"STARTING", "RUNNING"})
# What ends within so many seconds is started again after a pause that grows by a second each time, however often.
_START_S, _RETRIES = 5, 1_000_000


@dataclass(frozen=True, slots=True)
class Status:
    """One process as it is now. `waiting_for` is None when it is ready."""

    name: str
    state: str
    pid: int | None
    waiting_for: str | None
    ports: dict[str, int]

    @property
    def ready(self) -> bool:
        """It runs and says so itself."""
        return self.state in _ALIVE and self.waiting_for is None


def obstacles(platform: Platform) -> list[str]:
    """What stands in the way of a start, each with what to do; nothing is touched."""
    return preflight.problems(platform)


def prepare(platform: Platform) -> None:
    """Folders, Kafka's storage, Envoy's and supervisord's configuration. Does nothing twice."""
    ports, home = platform.ports, platform.home
    table = processes(platform)
    home.make([process.name for process in table])
    parts.prepare_kafka(home.kafka, ports.kafka, ports.kafka_controller)
    bootstrap = envoy_config(
        listen=address(ports.envoy),
        admin=address(ports.envoy_admin),
        champion=address(ports.inference_champion_grpc),
        challenger=address(ports.inference_challenger_grpc),
        champion_fast=address(ports.inference_champion_fast) if platform.fast_lane else None,
        challenger_fast=address(ports.inference_challenger_fast) if platform.fast_lane else None,
        champion_http=address(ports.inference_champion_http),
        challenger_http=address(ports.inference_challenger_http),
        router=address(ports.router_http),
    )
    platform.envoy_bootstrap.write_text(json.dumps(bootstrap, indent=2))
    (home.run / "supervisord.conf").write_text(configuration(platform, table))


def start(platform: Platform) -> None:
    """Starts supervisord in the background, and with it every process. `prepare` comes first."""
    log = platform.home.run / "supervisord.out"
    with log.open("ab") as out:
        subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(platform.home.run / "supervisord.conf")],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
    _wait(lambda: running(platform), 20.0, f"supervisord did not start; see {log}")


def running(platform: Platform) -> bool:
    """Whether supervisord answers."""
    try:
        with _supervisor(platform) as supervisor:
            return bool(supervisor.supervisor.getState())
    except OSError:
        return False


def stop(platform: Platform) -> None:
    """Stops services, then parts, then supervisord; returns when all have ended. Raises TimeoutError."""
    pid = manager_pid(platform)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    _wait(lambda: manager_pid(platform) is None, STOP_TIMEOUT_S, f"supervisord ({pid}) has not ended")


def kill(platform: Platform) -> None:
    """SIGKILLs supervisord; the kernel then kills its children (each asks for it at its start)."""
    pid = manager_pid(platform)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        _wait(lambda: manager_pid(platform) is None, STOP_TIMEOUT_S, f"supervisord ({pid}) has not ended")


def manager_pid(platform: Platform) -> int | None:
    """The pid of the supervisord that holds this home, or None if it is not running."""
    try:
        pid = int((platform.home.run / "supervisord.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, ValueError):
        return None
    return pid if b"supervisor" in command and not zombie else None


def status(platform: Platform) -> list[Status]:
    """Every process as it is now; all STOPPED if supervisord does not answer."""
    states: dict[str, dict[str, Any]] = {}
    if running(platform):
        with _supervisor(platform) as supervisor:
            states = {info["name"]: info for info in supervisor.supervisor.getAllProcessInfo()}
    return [_status(process, states.get(process.name)) for process in processes(platform)]


def wait_ready(platform: Platform, timeout_s: float, tell: Callable[[list[Status]], None]) -> None:
    """Returns when every process is ready; `tell` hears of every look. Raises TimeoutError naming what is not."""
    deadline = time.monotonic() + timeout_s
    while True:
        now = status(platform)
        tell(now)
        late = [each for each in now if not each.ready]
        if not late:
            return
        if time.monotonic() > deadline:
            words = "; ".join(f"{each.name} ({each.state}): {each.waiting_for}" for each in late)
            raise TimeoutError(f"not ready after {timeout_s:.0f} s: {words}. Logs: {platform.home.logs}")
        time.sleep(0.3)


def _status(process: Process, info: dict[str, Any] | None) -> Status:
    state = info["statename"] if info else "STOPPED"
    waiting_for = process.ready() if state in _ALIVE else "not running"
    return Status(process.name, state, info["pid"] or None if info else None, waiting_for, dict(process.ports))


@contextmanager
def _supervisor(platform: Platform) -> Iterator[Any]:
    """supervisord's XML-RPC interface; the path is relative because a socket's name has 107 bytes at most."""
    socket = os.path.relpath(platform.home.run / "supervisord.sock")
    transport = SupervisorTransport(None, None, f"unix://{socket}")
    with ServerProxy("http://127.0.0.1", transport=transport) as proxy:
        yield proxy


def configuration(platform: Platform, table: list[Process]) -> str:
    """supervisord's configuration file."""
    run = platform.home.run
    head = f"""\
[unix_http_server]
file={_escaped(str(run / "supervisord.sock"))}

[supervisord]
nodaemon=true
logfile={_escaped(str(run / "supervisord.log"))}
pidfile={_escaped(str(run / "supervisord.pid"))}
childlogdir={_escaped(str(platform.home.logs))}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    return head + "".join(_group(platform, rank, table) for rank in sorted({process.rank for process in table}))


def _group(platform: Platform, rank: int, table: list[Process]) -> str:
    """supervisord stops one group after the other, and the processes of one group at the same time."""
    members = [process for process in table if process.rank == rank]
    names = ",".join(process.name for process in members)
    head = f"\n[group:rank{rank}]\nprograms={names}\npriority={rank}\n"
    return head + "".join(_program(platform, process) for process in members)


def _program(platform: Platform, process: Process) -> str:
    # setpriv: the kernel kills the process when supervisord dies, so that nothing is left holding ports.
    # env: supervisord's own `environment` cannot hold a value with quotes in it.
    environment = [f"{name}={value}" for name, value in process.environment.items()]
    command = shlex.join(["setpriv", "--pdeathsig", "KILL", "env", *environment, *process.command])
    return f"""
[program:{process.name}]
command={_escaped(command)}
directory={_escaped(str(platform.home.run))}
startsecs={_START_S}
startretries={_RETRIES}
autorestart=true
stopsignal=TERM
stopwaitsecs={process.stop_s}
stdout_logfile={_escaped(str(platform.home.logs / (process.name + ".log")))}
stdout_logfile_maxbytes={_LOG_BYTES}
stdout_logfile_backups=1
redirect_stderr=true
"""


def _escaped(text: str) -> str:
    """supervisord expands %(name)s."""
    return text.replace("%", "%%")


def _wait(holds: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.1)
