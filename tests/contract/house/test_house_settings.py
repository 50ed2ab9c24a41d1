"""READMEs, manifests and the laptop's process list speak of variables that exist."""

from __future__ import annotations

import re

import pytest

from deploy.local.ports import Ports
from deploy.local.processes import SERVICES, local_platform, processes, shared_environment
from tests.contract.house import manifests, settings_names
from tests.support.process import REPOSITORY

MANIFESTS = sorted((REPOSITORY / "deploy/k8s").rglob("*.yaml"))
GIVEN = (*MANIFESTS, manifests.BASE / "slipway.env", REPOSITORY / "deploy/Dockerfile")


def _everything_taken() -> set[str]:
    return set().union(*(settings_names.taken(service) for service in settings_names.WITH_SETTINGS))


@pytest.mark.parametrize("service", settings_names.WITH_SETTINGS)
def test_a_readme_names_exactly_the_settings_that_there_are(service: str) -> None:
    named = settings_names.told(settings_names.SERVICES_FOLDER / service / "README.md")

    assert named - settings_names.taken(service) - settings_names.LOCAL == set(), "named, and not taken"
    assert settings_names.own(service) - named == set(), "taken, and not named"


def test_every_variable_in_a_manifest_or_an_image_is_taken_by_somebody() -> None:
    texts = [path.read_text() for path in GIVEN]
    named = {name for text in texts for name in re.findall(r"\bSLIPWAY_[A-Z0-9_]+", text)}

    assert named
    assert named - _everything_taken() == set()


def test_a_workload_is_given_only_what_its_service_takes() -> None:
    strange = {
        name: sorted(
            set(manifests.variables(container)) - settings_names.taken(container["image"].removeprefix("slipway-"))
        )
        for name, container in manifests.ours().items()
    }

    assert {name: names for name, names in strange.items() if names} == {}


def test_the_base_holds_every_process_of_the_laptop() -> None:
    assert {*SERVICES, "kafka", "redis", "mlflow", "envoy"} - set(manifests.containers()) == set()


def test_ports_in_the_cluster_are_those_of_the_laptop() -> None:
    told = {
        name: {
            kind.removeprefix("SLIPWAY_").removesuffix("_PORT").lower(): int(port)
            for kind, port in manifests.variables(container).items()
            if kind.endswith("_PORT")
        }
        for name, container in manifests.ours().items()
    }

    assert told == {name: Ports().of(name) for name in SERVICES}


def test_on_the_laptop_a_process_is_given_only_what_its_service_takes() -> None:
    platform = local_platform()
    shared = set(shared_environment(platform))
    strange = {}
    for process in processes(platform):
        module = process.command[2] if "-m" in process.command else ""
        if module.startswith("services."):
            given = {name for name in process.environment if name.startswith("SLIPWAY_")}
            strange[process.name] = given - shared - settings_names.taken(module.removeprefix("services."))

    assert set(strange) == set(SERVICES)
    assert {name: names for name, names in strange.items() if names} == {}


def test_what_all_processes_are_given_is_taken_by_somebody() -> None:
    given = {name for name in shared_environment(local_platform()) if name.startswith("SLIPWAY_")}

    assert given - _everything_taken() == set()
