"""The process list, and how supervisord is told of it."""

from __future__ import annotations

import configparser
import json
import shlex
from pathlib import Path

import pytest

from deploy.local import supervise
from deploy.local.home import Home
from deploy.local.parts import QUIET
from deploy.local.ports import Ports
from deploy.local.processes import SERVICES, Platform, Process, local_platform, processes
from services.problem import load_recipe
from tests.support import PARCELS
from tests.unit.local.platforms import platform


def _told(table: list[Process], root: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(supervise.configuration(platform(root), table))
    return parser


def _command(parser: configparser.RawConfigParser, process: str) -> list[str]:
    """As supervisord runs it: it expands %% and splits like a shell."""
    return shlex.split(parser[f"program:{process}"]["command"].replace("%%", "%"))


def test_every_service_and_every_part_is_a_process(tmp_path: Path) -> None:
    names = [process.name for process in processes(platform(tmp_path))]

    assert sorted(names) == sorted(["kafka", "redis", "mlflow", "envoy", *SERVICES])


def test_parts_start_before_services_and_stop_after_them(tmp_path: Path) -> None:
    ranks = {process.name: process.rank for process in processes(platform(tmp_path))}

    assert max(ranks[part] for part in ("kafka", "redis", "mlflow", "envoy")) < min(ranks[name] for name in SERVICES)


def test_a_service_is_told_its_ports_and_where_the_others_are(tmp_path: Path) -> None:
    asked = platform(tmp_path)
    told = {process.name: dict(process.environment) for process in processes(asked)}

    assert told["router"]["SLIPWAY_GRPC_PORT"] == str(asked.ports.router_grpc)
    assert told["router"]["SLIPWAY_ENVOY_ADMIN"] == f"http://127.0.0.1:{asked.ports.envoy_admin}"
    assert told["inference-challenger"]["SLIPWAY_VARIANT"] == "challenger"
    assert told["inference-champion"]["SLIPWAY_MODEL"] == load_recipe(PARCELS).name
    assert set(json.loads(told["monitoring"]["SLIPWAY_OPS"])) == set(SERVICES)


def test_nothing_reports_to_anybody(tmp_path: Path) -> None:
    for process in processes(platform(tmp_path)):
        if process.name in {*SERVICES, "mlflow"}:
            assert process.environment.items() >= QUIET.items()


def test_no_two_processes_share_a_database(tmp_path: Path) -> None:
    found = [process.environment.get("SLIPWAY_DATABASE") for process in processes(platform(tmp_path))]
    databases = [database for database in found if database]

    assert len(databases) == len(set(databases)) == 2


def test_supervisord_gets_commands_and_values_as_they_are(tmp_path: Path) -> None:
    value = """{"a": "it's 100 % \\\\ \\"quoted\\""}"""
    odd = Process("odd", ["run", "a b", "$HOME", value], lambda: None, {}, rank=1, environment={"SLIPWAY_ODD": value})

    command = _command(_told([odd], tmp_path), "odd")

    assert command[-4:] == odd.command
    assert f"SLIPWAY_ODD={value}" in command


def test_each_process_asks_the_kernel_to_be_killed_with_supervisord(tmp_path: Path) -> None:
    table = processes(platform(tmp_path))
    parser = _told(table, tmp_path)

    for process in table:
        assert _command(parser, process.name)[:3] == ["setpriv", "--pdeathsig", "KILL"]


def test_processes_of_one_rank_are_one_group(tmp_path: Path) -> None:
    parser = _told(processes(platform(tmp_path)), tmp_path)

    assert sorted(parser["group:rank2"]["programs"].split(",")) == sorted(SERVICES)
    assert int(parser["group:rank1"]["priority"]) < int(parser["group:rank2"]["priority"])


def test_without_supervisord_everything_is_stopped(tmp_path: Path) -> None:
    now = supervise.status(platform(tmp_path))

    assert {each.state for each in now} == {"STOPPED"}
    assert not any(each.ready for each in now)


def test_a_pid_of_somebody_else_is_not_our_manager(tmp_path: Path) -> None:
    asked = platform(tmp_path)
    asked.home.run.mkdir(parents=True)
    assert supervise.manager_pid(asked) is None

    (asked.home.run / "supervisord.pid").write_text("1\n")

    assert supervise.manager_pid(asked) is None


def test_the_environment_names_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_FEATURE_REPO", str(PARCELS))
    monkeypatch.setenv("SLIPWAY_PORT_OFFSET", "7")

    assert local_platform() == Platform(Home(tmp_path), Ports().moved(7), PARCELS)
