"""`slipway up`, `down` and `status` where nothing runs."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from deploy.local.ports import Ports
from deploy.local.processes import SERVICES
from tests.unit.cli.fakes import slipway

OFFSET = 13_500


def test_status_lists_every_process_and_fails_while_one_is_not_ready(tmp_path: Path) -> None:
    done = slipway("status", "--json", HOME=str(tmp_path), PORT_OFFSET=str(OFFSET))

    told = {each["name"]: each for each in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert set(told) == {"kafka", "redis", "mlflow", "envoy", *SERVICES}
    assert told["router"] == {
        "name": "router",
        "state": "STOPPED",
        "pid": None,
        "waiting_for": "not running",
        "ports": {kind: port + OFFSET for kind, port in Ports().of("router").items()},
        "ready": False,
    }


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    done = slipway("down", HOME=str(tmp_path))

    assert done.exit_code == 0
    assert "Nothing to stop" in done.stdout


def test_a_port_in_use_is_said_before_anything_is_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with socket.create_server(("127.0.0.1", Ports().moved(OFFSET).envoy)):
        done = slipway("up", HOME=str(home), PORT_OFFSET=str(OFFSET))

    assert done.exit_code == 2
    assert f"port {Ports().moved(OFFSET).envoy} (envoy) is in use" in done.stderr
    assert not home.exists()


def test_a_wrong_offset_is_said() -> None:
    done = slipway("status", PORT_OFFSET="a lot")

    assert done.exit_code == 1
    assert done.stderr.startswith("error: SLIPWAY_PORT_OFFSET: expected a number")
