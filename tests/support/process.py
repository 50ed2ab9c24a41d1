"""Real processes under test."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.home import REPOSITORY
from deploy.local.parts import QUIET
from deploy.local.probes import Probe, http_ready
from tests.support.eventually import eventually
from tests.support.parts import free_port

STOP_S = 15.0


class Running:
    """A process, where it writes, and the port on which it says that it is ready."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, ops_port: int) -> None:
        self.process = process
        self.log = log
        self.ops_port = ops_port

    @property
    def output(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text(errors="replace")

    def wait_ready(self, ready: Probe, timeout_s: float) -> None:
        """Returns when it is ready; fails with its last lines if it ends or stays unready."""

        def is_ready() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output[-4000:]}"
            return ready() is None

        try:
            eventually(is_ready, "the process is ready", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\nstill waiting for: {ready()}\n{self.output[-4000:]}") from None

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM; the exit code. Fails with the last lines if it does not end in time."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end within {STOP_S} s of SIGTERM:\n{self.output[-4000:]}") from None


def start_process(command: Sequence[str], *, env: Mapping[str, str], ops_port: int) -> Running:
    """Starts a command in the repository with its output in a file; the kernel kills it with us."""
    descriptor, name = tempfile.mkstemp(prefix="slipway-test-", suffix=".log")
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        stdout=descriptor,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=REPOSITORY,
        env=os.environ | QUIET | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"} | dict(env),
    )
    os.close(descriptor)
    return Running(process, Path(name), ops_port)


@contextmanager
def run_service(
    module: str, *args: str, env: Mapping[str, str], ready: bool = True, timeout_s: float = 60.0
) -> Iterator[Running]:
    """`python -m <module> <args>` as a process: waits until /ready says yes, stops it with SIGTERM at the end.

    `env` may give SLIPWAY_OPS_PORT; else a free port is taken. `ready=False` does not wait.
    """
    ops_port = int(env.get("SLIPWAY_OPS_PORT") or free_port())
    running = start_process(
        [sys.executable, "-m", module, *args], env={**env, "SLIPWAY_OPS_PORT": str(ops_port)}, ops_port=ops_port
    )
    try:
        if ready:
            running.wait_ready(http_ready(ops_port), timeout_s)
        yield running
    finally:
        if running.process.poll() is None:
            running.terminate()
        running.log.unlink(missing_ok=True)
