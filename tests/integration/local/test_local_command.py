"""`slipway up` in the foreground: all of it comes up, is looked at, and is gone after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local import supervise
from deploy.local.processes import SERVICES, Platform
from tests.integration.local.platforms import environment, free_platform, listening
from tests.support import eventually
from tests.support.process import REPOSITORY

READY_S = 240.0
STOPPED_S = 100.0


class Foreground:
    """A `slipway up` that runs as in a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def said(self, words: str) -> bool:
        """Whether it has written this. Fails with what it wrote if it has ended."""
        written = self._log.read_text(errors="replace")
        if words not in written and self.process.poll() is not None:
            pytest.fail(f"ended with {self.process.returncode}:\n{written[-4000:]}")
        return words in written

    def ends(self, signum: signal.Signals) -> int:
        """Its exit code after the signal."""
        self.process.send_signal(signum)
        return self.process.wait(STOPPED_S)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Not started; stopped at the end, whatever happens."""
    made = free_platform(tmp_path / "home")
    yield made
    supervise.stop(made)


@contextmanager
def _up(platform: Platform, log: Path) -> Iterator[Foreground]:
    command = [sys.executable, "-m", "services.cli", "up"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | environment(platform), stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield Foreground(process, log)
    finally:
        process.kill()
        process.wait()


def _slipway(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | environment(platform), capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(600)
def test_the_platform_comes_up_and_ctrl_c_stops_all_of_it(platform: Platform, tmp_path: Path) -> None:
    with _up(platform, tmp_path / "up.log") as up:
        eventually(lambda: up.said("Ctrl-C stops it"), "the platform is ready", READY_S)
        status = _slipway(platform, "status", "--json")
        assert status.returncode == 0, status.stdout
        assert {each["name"] for each in json.loads(status.stdout) if each["ready"]} > set(SERVICES)
        assert "recorded" in _slipway(platform, "counts").stdout
        assert "none yet" in _slipway(platform, "release", "status").stdout
        assert "No training run yet" in _slipway(platform, "runs").stdout
        assert "has no version yet" in _slipway(platform, "models").stdout
        assert "No dead letter" in _slipway(platform, "dlq", "list").stdout

        assert up.ends(signal.SIGINT) == 0

    assert listening(platform) == []
    assert supervise.manager_pid(platform) is None


@pytest.mark.timeout(300)
def test_a_closed_terminal_during_the_start_stops_what_has_started(platform: Platform, tmp_path: Path) -> None:
    with _up(platform, tmp_path / "up.log") as up:
        eventually(lambda: up.said("redis is ready"), "the first part is ready", READY_S)

        assert up.ends(signal.SIGHUP) == 130

    assert listening(platform) == []
