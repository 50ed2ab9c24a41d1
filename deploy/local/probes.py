"""Whether a process is ready: what it is waiting for in words, or None."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable

from deploy.local.ports import LOOPBACK, address

Probe = Callable[[], str | None]
_TIMEOUT_S = 1.0


def http_ready(port: int, path: str = "/ready") -> Probe:
    """Ready when the path answers 200. A body `{"waiting_for": {part: why}}` becomes the words."""

    def probe() -> str | None:
        try:
            with urllib.request.urlopen(f"http://{address(port)}{path}", timeout=_TIMEOUT_S):
                return None
        except urllib.error.HTTPError as answer:
            return _waiting_for(answer.read())
        except OSError as error:
            return f"port {port} does not answer ({_reason(error)})"

    return probe


def tcp_open(port: int) -> Probe:
    """Ready when something listens."""

    def probe() -> str | None:
        try:
            with socket.create_connection((LOOPBACK, port), timeout=_TIMEOUT_S):
                return None
        except OSError as error:
            return f"port {port} does not answer ({_reason(error)})"

    return probe


def redis_pong(port: int) -> Probe:
    """Ready when Redis answers PING with PONG (not while it loads its data)."""

    def probe() -> str | None:
        try:
            with socket.create_connection((LOOPBACK, port), timeout=_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(100)
        except OSError as error:
            return f"port {port} does not answer ({_reason(error)})"
        return None if answer.startswith(b"+PONG") else answer.decode(errors="replace").strip()

    return probe


def _waiting_for(body: bytes) -> str:
    try:
        parts: dict[str, str] = json.loads(body)["waiting_for"]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or "not ready"
    return "; ".join(f"{part}: {why}" for part, why in parts.items())


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", error))
