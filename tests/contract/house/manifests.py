"""deploy/k8s, the Dockerfile and the locks as they stand in the repository, not rendered."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy.local.processes import SERVICES
from tests.support.process import REPOSITORY

BASE = REPOSITORY / "deploy/k8s/base"
OVERLAY = REPOSITORY / "deploy/k8s/overlays/dev"
DOCKERFILE = (REPOSITORY / "deploy/Dockerfile").read_text()
IMAGES = ("ingestion", "features", "training", "inference", "router", "monitoring")
_WORKLOADS = {"Deployment", "StatefulSet"}


def read(path: Path) -> Any:
    """One YAML document."""
    return yaml.safe_load(path.read_text())


def documents(kind: str) -> dict[str, Any]:
    """All of the base of one kind, by name."""
    return {each["metadata"]["name"]: each for each in _base() if each.get("kind") == kind}


@cache
def _base() -> list[Any]:
    return [document for path in BASE.glob("*.yaml") for document in yaml.safe_load_all(path.read_text())]


def pods() -> dict[str, Any]:
    """The pod of each workload, by the workload's name."""
    return {
        name: document["spec"]["template"]["spec"]
        for kind in sorted(_WORKLOADS)
        for name, document in documents(kind).items()
    }


def containers() -> dict[str, Any]:
    """The one container of each workload."""
    return {name: pod["containers"][0] for name, pod in pods().items()}


def ours() -> dict[str, Any]:
    """The containers of the processes that a laptop runs too."""
    return {name: container for name, container in containers().items() if name in SERVICES}


def variables(container: dict[str, Any]) -> dict[str, str]:
    """What it alone is given."""
    return {each["name"]: each["value"] for each in container.get("env", [])}


def settings() -> dict[str, str]:
    """What all of ours are given: the base's file, then the overlay's literals."""
    generators = read(OVERLAY / "kustomization.yaml")["configMapGenerator"]
    literals = [each for generator in generators for each in generator["literals"]]
    return dict(line.split("=", 1) for line in [*(BASE / "slipway.env").read_text().splitlines(), *literals])


def image_environment() -> dict[str, str]:
    """What every image of ours brings."""
    blocks = re.findall(r"^ENV (.*?[^\\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    return dict(pair.split("=", 1) for block in blocks for pair in block.replace("\\\n", " ").split())


def environment(name: str) -> dict[str, str]:
    """Everything that one of our processes is given in the cluster."""
    return image_environment() | settings() | variables(ours()[name])


def mounts(name: str) -> dict[str, str]:
    """Mounted path to claim, for what outlives the pod; to the volume's name for what does not."""
    pod = pods()[name]
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    return {
        mount["mountPath"]: volumes[mount["name"]].get("persistentVolumeClaim", {}).get("claimName", mount["name"])
        for mount in pod["containers"][0].get("volumeMounts", [])
    }


def service_addresses() -> set[str]:
    """Each `service:port` that a Service answers on."""
    return {f"{name}:{port['port']}" for name, each in documents("Service").items() for port in each["spec"]["ports"]}


def envoy_bootstrap() -> Any:
    """As it is committed."""
    return json.loads((BASE / "envoy.json").read_text())


def pins(lock: Path) -> dict[str, str]:
    """Version by package."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ \\;]+)", lock.read_text(), re.MULTILINE))
