"""Probes: ready, or what it waits for in words."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.local import probes
from services.chassis.lifecycle import Lifecycle
from tests.support import free_port


@contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    """A server that says one thing to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize("probe", [probes.http_ready, probes.tcp_open, probes.redis_pong])
def test_a_port_that_nobody_listens_on_is_named(probe: object) -> None:
    port = free_port()

    assert f"port {port} does not answer" in (probe(port)() or "")


def test_a_process_that_waits_says_for_what() -> None:
    lifecycle = Lifecycle()
    lifecycle.not_ready("kafka", "no broker")
    lifecycle.not_ready("model", "no alias")
    with lifecycle.ops_server("127.0.0.1", 0) as port:
        ready = probes.http_ready(port)
        assert ready() == "kafka: no broker; model: no alias"

        lifecycle.ready("kafka")
        lifecycle.ready("model")
        assert ready() is None


def test_a_refusal_without_our_words_is_passed_on() -> None:
    answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nwarm"
    with _answering(answer) as port:
        assert probes.http_ready(port)() == "warm"


def test_redis_that_loads_its_data_is_not_ready() -> None:
    with _answering(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        assert probes.redis_pong(port)() == "-LOADING Redis is loading the dataset in memory"


def test_redis_that_answers_is_ready() -> None:
    with _answering(b"+PONG\r\n") as port:
        assert probes.redis_pong(port)() is None
