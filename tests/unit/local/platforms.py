"""Platforms in a temporary folder, on ports that nobody uses."""

from __future__ import annotations

from pathlib import Path

from deploy.local.home import Home
from deploy.local.ports import Ports
from deploy.local.processes import Platform
from tests.support import PARCELS

FAR = 13_000
"""Below the ports that the kernel gives to anybody."""


def platform(root: Path) -> Platform:
    """Of the second problem."""
    return Platform(Home(root), Ports().moved(FAR), PARCELS)
