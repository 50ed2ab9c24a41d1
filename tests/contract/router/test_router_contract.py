"""What the router, Envoy's bootstrap and the inference deployments must agree on."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.local import envoy as bootstrap
from services.contracts.router.v1 import router_pb2
from services.router import assignment, routes
from services.router.releases import Phase, Strategy
from services.router.settings import RouterSettings
from services.router.translate import strategy_from_proto

README = Path(routes.__file__).with_name("README.md")


def test_envoy_accepts_the_bootstrap(tmp_path: Path) -> None:
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(bootstrap.envoy_config()))

    command = [*bootstrap.envoy_command(path), "--mode", "validate"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr


def test_the_bootstrap_asks_for_the_routes_that_the_router_gives() -> None:
    given = routes.route_configuration(routes.Split("v2", 500), "5s")
    clusters = {cluster["name"] for cluster in bootstrap.envoy_config()["static_resources"]["clusters"]}

    assert given["name"] == bootstrap.ROUTE_CONFIG
    assert clusters_of(given, 1) == ["challenger", "champion"], "ModelInfer; the challenger is drawn first"
    assert clusters_of(given, 2) == ["challenger-grpc", "champion-grpc"], "the other methods"
    assert clusters_of(given, 3) == ["challenger-http", "champion-http"], "REST"
    assert {name for route in range(1, 4) for name in clusters_of(given, route)} < clusters


def clusters_of(given: dict[str, Any], route: int) -> list[str]:
    """Those that a route chooses among."""
    found = given["virtual_hosts"][0]["routes"][route]["route"]["weighted_clusters"]["clusters"]
    return [cluster["name"] for cluster in found]


@pytest.mark.parametrize(
    ("path", "denied"),
    [
        ("/inference.GRPCInferenceService/RepositoryModelLoad", True),
        ("/inference.GRPCInferenceService/RepositoryModelUnload", True),
        ("/inference.GRPCInferenceService/RepositoryIndex", False),
        ("/v2/repository/models/any/load", True),
        ("/v2/repository/index", False),
        ("/v2/models/load/infer", False),
    ],
)
def test_who_comes_through_the_split_loads_nothing(path: str, denied: bool) -> None:
    first = routes.route_configuration(routes.Split(), "5s")["virtual_hosts"][0]["routes"][0]

    assert bool(re.fullmatch(first["match"]["safe_regex"]["regex"], path)) is denied
    assert first["direct_response"]["status"] == 403


@pytest.mark.parametrize("weight", [0, 1, 2500, 10_000])
def test_weights_always_add_up(weight: int) -> None:
    given = routes.route_configuration(routes.Split("v2", weight), "5s")
    weighted = given["virtual_hosts"][0]["routes"][1]["route"]["weighted_clusters"]["clusters"]

    assert sum(cluster["weight"] for cluster in weighted) == assignment.TOTAL_WEIGHT


def test_every_phase_and_strategy_has_its_word() -> None:
    assert {f"PHASE_{phase.name}" for phase in Phase} | {"PHASE_UNSPECIFIED"} == set(router_pb2.Phase.keys())
    assert {strategy_from_proto(value) for value in router_pb2.Strategy.values()} == set(Strategy)


def test_the_readme_lists_every_setting() -> None:
    listed = set(re.findall(r"`SLIPWAY_(\w+)`", README.read_text()))

    assert {name.upper() for name in RouterSettings.__annotations__} <= listed
