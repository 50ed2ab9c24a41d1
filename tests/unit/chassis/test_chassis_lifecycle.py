"""What a process says of itself, and how it ends."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import Counter

from services.chassis.lifecycle import Lifecycle

SEEN = Counter("slipway_test_lifecycle_seen", "Exists for this test.")


@pytest.fixture
def lifecycle() -> Lifecycle:
    """Nothing declared."""
    return Lifecycle()


@pytest.fixture
def ops(lifecycle: Lifecycle) -> Iterator[str]:
    """URL of its ops server."""
    with lifecycle.ops_server("127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def test_a_process_is_ready_when_every_declared_part_is(lifecycle: Lifecycle, ops: str) -> None:
    lifecycle.not_ready("kafka", "starting")
    lifecycle.not_ready("model", "no alias yet")
    code, body = _get(f"{ops}/ready")
    assert (code, json.loads(body)) == (503, {"waiting_for": {"kafka": "starting", "model": "no alias yet"}})

    lifecycle.ready("kafka")
    assert json.loads(_get(f"{ops}/ready")[1]) == {"waiting_for": {"model": "no alias yet"}}

    lifecycle.ready("model")
    assert _get(f"{ops}/ready") == (200, '{"waiting_for": {}}')


def test_readiness_can_be_taken_back(lifecycle: Lifecycle, ops: str) -> None:
    lifecycle.ready("kafka")
    lifecycle.not_ready("kafka", "the broker is gone")

    assert _get(f"{ops}/ready")[0] == 503


def test_it_lives_while_it_is_not_ready(lifecycle: Lifecycle, ops: str) -> None:
    lifecycle.not_ready("kafka", "starting")

    assert _get(f"{ops}/live")[0] == 200


def test_metrics_are_shown(ops: str) -> None:
    SEEN.inc(3)

    code, body = _get(f"{ops}/metrics")

    assert code == 200
    assert "slipway_test_lifecycle_seen_total 3.0" in body


def test_another_path_says_where_to_look(ops: str) -> None:
    code, body = _get(f"{ops}/health")

    assert code == 404
    assert "/ready" in body


async def test_stop_from_another_thread_wakes_who_waits(lifecycle: Lifecycle) -> None:
    waiting = asyncio.create_task(lifecycle.wait_stopped())
    await asyncio.sleep(0)
    assert not waiting.done()

    threading.Thread(target=lifecycle.stop).start()

    await asyncio.wait_for(waiting, 5)
    assert lifecycle.stopping.is_set()


async def test_who_begins_to_wait_after_the_stop_does_not_wait(lifecycle: Lifecycle) -> None:
    lifecycle.stop()

    await asyncio.wait_for(lifecycle.wait_stopped(), 5)


def test_the_ops_port_is_free_again_afterwards(lifecycle: Lifecycle) -> None:
    with lifecycle.ops_server("127.0.0.1", 0) as port:
        pass
    with lifecycle.ops_server("127.0.0.1", port) as again:
        assert again == port
