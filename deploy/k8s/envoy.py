"""Envoy's bootstrap in the cluster: the laptop's (deploy/local/envoy.py) with the names of Services.

Written by `.venv/bin/python -m deploy.k8s.envoy > deploy/k8s/base/envoy.json`; commit what changes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from deploy.local.envoy import envoy_config
from deploy.local.ports import Ports

_EVERYWHERE = "0.0.0.0"  # noqa: S104  a pod's address is its own
_PORTS = Ports()


def cluster_bootstrap() -> dict[str, Any]:
    """The content of deploy/k8s/base/envoy.json."""
    return envoy_config(
        listen=f"{_EVERYWHERE}:{_PORTS.envoy}",
        admin=f"{_EVERYWHERE}:{_PORTS.envoy_admin}",
        champion=f"inference-champion:{_PORTS.inference_champion_grpc}",
        challenger=f"inference-challenger:{_PORTS.inference_challenger_grpc}",
        champion_fast=f"inference-champion:{_PORTS.inference_champion_fast}",
        challenger_fast=f"inference-challenger:{_PORTS.inference_challenger_fast}",
        champion_http=f"inference-champion:{_PORTS.inference_champion_http}",
        challenger_http=f"inference-challenger:{_PORTS.inference_challenger_http}",
        router=f"router:{_PORTS.router_http}",
    )


if __name__ == "__main__":
    json.dump(cluster_bootstrap(), sys.stdout, indent=2)
    sys.stdout.write("\n")
