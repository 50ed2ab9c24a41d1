"""Processes that are measured: started on a core of their own, ended with the block, killed by the kernel with us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.local.home import REPOSITORY
from deploy.local.parts import QUIET
from deploy.local.ports import LOOPBACK
from deploy.local.probes import Probe
from loadtests.ceilings.cores import family, pinned
from services.chassis.errors import Unavailable

_STOP_S, _LOOK_S = 15.0, 0.1


@contextmanager
def started(
    name: str, command: Sequence[str], *, environment: Mapping[str, str], core: int | None, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The process; `<folder>/<name>.log` has what it writes."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *pinned(core, command)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ | QUIET | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"} | dict(environment),
        )
    try:
        yield process
    finally:
        _end(process)


def wait_ready(name: str, process: subprocess.Popen[bytes], ready: Probe, within_s: float, folder: Path) -> None:
    """Returns when `ready` says so. Raises Unavailable with its last lines if it ends or takes too long."""
    deadline = time.monotonic() + within_s
    while (waiting_for := ready()) is not None:
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            why = f"ended with {process.returncode}" if ended else f"not ready after {within_s:.0f} s: {waiting_for}"
            raise Unavailable(f"{name} {why}\n{(folder / f'{name}.log').read_text(errors='replace')[-2000:]}")
        time.sleep(_LOOK_S)


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that descends from it: some servers leave workers behind."""
    left = family(process.pid)
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in left - {process.pid}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
