"""Who listens where."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest

from deploy.local.ports import Ports, local_ports
from deploy.local.processes import SERVICES, local_fast_lane
from services.chassis.errors import Invalid
from tests.support.process import REPOSITORY


def test_every_port_is_somebodys_alone() -> None:
    numbers = list(asdict(Ports()).values())

    assert len(set(numbers)) == len(numbers)


def test_the_table_in_the_architecture_is_the_one_in_the_code() -> None:
    page = (REPOSITORY / "docs/architecture.md").read_text()
    table = page.partition("## Ports on a laptop")[2].partition("\nSettings that")[0]
    rows = re.findall(r"^\| ([a-z-]+) \| *(\d*) *\| *(\d*) *\| *(\d*) *\| *(\d*) *\|$", table, re.MULTILINE)

    told = {
        name: {kind: int(port) for kind, port in zip(("grpc", "http", "ops", "fast"), ports, strict=True) if port}
        for name, *ports in rows
    }

    assert told == {name: Ports().of(name) for name in SERVICES}


def test_an_offset_moves_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_PORT_OFFSET", "1000")

    moved = asdict(local_ports())

    assert moved == {name: port + 1000 for name, port in asdict(Ports()).items()}


@pytest.mark.parametrize("offset", ["x", "-1", "1.5", "60000", ""])
def test_an_offset_that_is_none_is_refused_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, offset: str
) -> None:
    monkeypatch.setenv("SLIPWAY_PORT_OFFSET", offset)

    with pytest.raises(Invalid, match="SLIPWAY_PORT_OFFSET: expected a number from 0 to"):
        local_ports()


def test_ports_of_a_part_have_its_name_as_kind() -> None:
    assert Ports().of("kafka") == {"kafka": 9092, "controller": 9093}
    assert Ports().of("features") == {"grpc": 9104, "ops": 9204}
    assert Ports().of("features-stream") == {"ops": 9203}


def test_the_fast_lane_is_on_unless_it_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_fast_lane()
    monkeypatch.setenv("SLIPWAY_FAST_LANE", "false")
    assert not local_fast_lane()

    monkeypatch.setenv("SLIPWAY_FAST_LANE", "no")
    with pytest.raises(Invalid, match="SLIPWAY_FAST_LANE: expected true or false, got 'no'"):
        local_fast_lane()
