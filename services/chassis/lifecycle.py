"""A process's life: which of its parts are ready, when it was told to stop, and the ops port that shows it.

`/live` answers 200 while the process runs, `/ready` 200 when every declared part is ready (else 503 with the parts
that are not and why), `/metrics` the Prometheus exposition.
"""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


class Lifecycle:
    """Shared by the threads and tasks of one process. Thread-safe."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._not_ready: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stop_callbacks: list[Any] = []

    def not_ready(self, part: str, why: str) -> None:
        """Declares a part, or takes its readiness back."""
        with self._lock:
            self._not_ready[part] = why

    def ready(self, part: str) -> None:
        """The part is ready."""
        with self._lock:
            self._not_ready.pop(part, None)

    @property
    def waiting_for(self) -> dict[str, str]:
        """The parts that are not ready and why; empty when the process is ready."""
        with self._lock:
            return dict(self._not_ready)

    def stop(self) -> None:
        """Asks the process to end: loops look at `stopping`, `wait_stopped` returns."""
        self.stopping.set()
        for callback in self._stop_callbacks:
            callback()

    def install_signal_handlers(self) -> None:
        """SIGTERM and SIGINT stop the process. Call it in the main thread."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: self.stop())

    async def wait_stopped(self) -> None:
        """Returns once `stop` was called, from whichever thread."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        self._stop_callbacks.append(lambda: loop.call_soon_threadsafe(event.set))
        if not self.stopping.is_set():
            await event.wait()

    @contextmanager
    def ops_server(self, host: str, port: int) -> Iterator[int]:
        """Serves /live, /ready and /metrics in a thread; yields the bound port (`port` 0: any free one)."""
        server = ThreadingHTTPServer((host, port), _ops_handler(self))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="ops", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()


def _ops_handler(lifecycle: Lifecycle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
            elif self.path == "/live":
                self._answer(200, b"{}", "application/json")
            elif self.path == "/ready":
                waiting = lifecycle.waiting_for
                body = json.dumps({"waiting_for": waiting}).encode()
                self._answer(503 if waiting else 200, body, "application/json")
            else:
                self._answer(404, b"try /live, /ready or /metrics\n", "text/plain")

        def _answer(self, code: int, body: bytes, content_type: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # a prober that did not wait
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
            """Probes are not worth a line each."""

    return Handler
