"""Where and with what a run was made, for those who read its numbers later."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from deploy.local.home import REPOSITORY


def describe() -> Mapping[str, str]:
    """In words, by what it is."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _says("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "grpcio": version("grpcio"),
        "onnxruntime": version("onnxruntime"),
        "h2load": _says("h2load", "--version"),
    }


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _says(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    except OSError:
        return "unknown"
