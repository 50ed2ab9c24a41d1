"""Logs: one JSON object a line on stdout, ours and the libraries' alike."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.support.process import REPOSITORY

# In a process of its own: logging is configured for the whole process.
_PROGRAM = """
import logging
from services.chassis.logging import configure, get_logger
configure("probe", "INFO", "json")
get_logger(part="a").info("thing_done", rows=3)
get_logger().debug("unseen")
logging.getLogger("library").warning("careful")
try:
    1 / 0
except ZeroDivisionError:
    get_logger().exception("thing_failed")
"""


def _lines() -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_line_is_an_object_with_event_level_time_and_service() -> None:
    lines = _lines()

    assert [line["event"] for line in lines] == ["thing_done", "careful", "thing_failed"]
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert lines[0] | {"part": "a", "rows": 3, "service": "probe"} == lines[0]
    assert "ZeroDivisionError" in lines[2]["exception"]
