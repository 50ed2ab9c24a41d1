"""Platforms in a temporary folder on ports that nobody uses, and whether anything still listens there."""

from __future__ import annotations

import random
import socket
from dataclasses import asdict
from pathlib import Path

from deploy.local.home import Home
from deploy.local.ports import Ports
from deploy.local.processes import Platform
from tests.support import PARCELS

_OFFSETS = range(11_000, 22_000, 500)
"""Moved so far, every port stays below those that the kernel gives to anybody."""


def free_platform(folder: Path) -> Platform:
    """At an offset where nothing listens. Fails if there is none."""
    offsets = list(_OFFSETS)
    random.SystemRandom().shuffle(offsets)
    for offset in offsets:
        platform = Platform(Home(folder), Ports().moved(offset), PARCELS)
        if not listening(platform):
            return platform
    raise AssertionError("every offset is taken")


def offset_of(platform: Platform) -> int:
    """How far its ports are moved."""
    return platform.ports.kafka - Ports().kafka


def environment(platform: Platform) -> dict[str, str]:
    """What makes a command mean this platform."""
    return {
        "SLIPWAY_HOME": str(platform.home.root),
        "SLIPWAY_PORT_OFFSET": str(offset_of(platform)),
        "SLIPWAY_FEATURE_REPO": str(platform.feature_repo),
    }


def listening(platform: Platform) -> list[str]:
    """The ports of the platform that somebody listens on, by name."""
    return [name for name, port in asdict(platform.ports).items() if _answers(port)]


def _answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0
