"""gRPC servers that answer what a test gives them and remember what they were asked; a command line beside them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import grpc
from typer.testing import CliRunner, Result

from services.cli.main import app
from tests.support import PARCELS, free_port


class Fake:
    """A servicer of any service: `answers` maps a method to its answer, to an error (status, words), or to a list of
    answers given one after the other."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers
        self.asked: list[tuple[str, Any, dict[str, str]]] = []

    def __getattr__(self, method: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        if method.startswith("_"):
            raise AttributeError(method)

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            headers = {key: str(value) for key, value in context.invocation_metadata()}
            self.asked.append((method, request, headers))
            answer = self._answers[method]
            if isinstance(answer, list):
                answer = answer.pop(0)
            if isinstance(answer, tuple):
                context.abort(*answer)
            return answer

        return handle


@contextmanager
def serving(add: Callable[[Any, grpc.Server], None], fake: Fake) -> Iterator[str]:
    """`host:port` of a server with this servicer."""
    server = grpc.server(ThreadPoolExecutor(2))
    add(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@contextmanager
def mlflow(documents: Mapping[str, Any]) -> Iterator[str]:
    """URL of a server with MLflow's API: a document for each path below /api/2.0/mlflow, 404 for the others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
            self.send_response(200 if path in documents else 404)
            self.end_headers()
            self.wfile.write(json.dumps(documents.get(path, {})).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def slipway(*arguments: str, **variables: str) -> Result:
    """Runs the command on the second problem; what is not named in `variables` (SLIPWAY_…) is not running."""
    nobody = {name: f"127.0.0.1:{free_port()}" for name in ("ROUTER", "TRAINING", "MONITORING", "ENVOY")}
    told = nobody | {"MLFLOW": f"http://127.0.0.1:{free_port()}", "FEATURE_REPO": str(PARCELS)} | variables
    return CliRunner().invoke(app, list(arguments), env={f"SLIPWAY_{name}": value for name, value in told.items()})
