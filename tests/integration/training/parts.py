"""A features service that serves training sets from a folder, led by the test."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.chassis.clock import from_proto, to_us
from services.contracts.features.v1 import features_pb2 as pb
from services.contracts.features.v1 import features_pb2_grpc as rpc

MODEL = "parcel-delay"
FEATURES = ("courier_recent__delay_mean_6h", "courier_recent__delay_last", "parcel_request__weight")
T0 = datetime(2024, 3, 1, tzinfo=UTC)


@dataclass
class Features(rpc.FeaturesServiceServicer):
    """Six rows an hour; `signal`: how much the features tell of the label."""

    folder: Path
    signal: float = 2.0
    refuses: tuple[grpc.StatusCode, str] | None = None
    port: int = 0
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)

    def GetFeatureServiceSchema(self, request: Any, context: Any) -> pb.GetFeatureServiceSchemaResponse:
        if request.feature_service != "parcel_delay_v1":
            context.abort(grpc.StatusCode.NOT_FOUND, f"feature_service: there is no {request.feature_service!r}")
        answer = pb.GetFeatureServiceSchemaResponse(features=FEATURES)
        answer.join_keys.add(name="courier", data_type=pb.DATA_TYPE_STRING)
        answer.request_fields.add(name="pickup_at", data_type=pb.DATA_TYPE_TIMESTAMP)
        answer.request_fields.add(name="weight_kg", data_type=pb.DATA_TYPE_DOUBLE)
        return answer

    def BuildTrainingSet(self, request: Any, context: Any) -> Iterator[pb.BuildTrainingSetResponse]:
        begin, end = from_proto(getattr(request, "from")), from_proto(request.to)
        self.asked.append((begin, end))
        if self.refuses:
            context.abort(*self.refuses)
        yield pb.BuildTrainingSetResponse(stage="reads the lake")
        table = training_table(begin, end, self.signal)
        path = self.folder / f"set-{len(self.asked)}.parquet"
        pq.write_table(table, path)
        told = pb.TrainingSet(uri=path.as_uri(), digest=digest(table), rows=table.num_rows, features=FEATURES)
        yield pb.BuildTrainingSetResponse(stage="done", training_set=told)


def training_table(begin: datetime, end: datetime, signal: float) -> pa.Table:
    """The same range and signal give the same rows."""
    rows = max(0, int((end - begin) / timedelta(minutes=10)))
    chance = np.random.default_rng(rows)
    values = chance.normal(size=(rows, len(FEATURES))).astype(np.float32)
    values[chance.random(values.shape) < 0.05] = np.nan
    logit = signal * np.nan_to_num(values[:, 0]) - 0.3
    labels = (chance.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    moments = to_us(begin) + np.arange(rows, dtype=np.int64) * 600_000_000
    columns: dict[str, Any] = {
        "parcel_id": [f"parcel-{number}" for number in range(rows)],
        "as_of": pa.array(moments).cast(pa.timestamp("us", "UTC")),
        "courier": ["courier-1"] * rows,
        **{name: pa.array(values[:, at], from_pandas=True) for at, name in enumerate(FEATURES)},
        "label": labels,
    }
    return pa.table(columns)


def digest(table: pa.Table) -> str:
    return hashlib.sha256(str(table.to_pydict()).encode()).hexdigest()


@contextmanager
def serving(features: Features) -> Iterator[Features]:
    """Its gRPC server; sets its port."""
    server = grpc.server(ThreadPoolExecutor(4))
    rpc.add_FeaturesServiceServicer_to_server(features, server)
    features.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield features
    finally:
        server.stop(None).wait()


class SilentMlflow:
    """Before a real MLflow: passes each call on, but once a call of `silent_after` took effect it answers nobody."""

    def __init__(self, url: str, silent_after: str) -> None:
        self.took_effect = threading.Event()
        handler = _silent_handler(url, silent_after, self.took_effect)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _silent_handler(url: str, silent_after: str, took_effect: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {"content-type": self.headers.get("content-type", "application/json")}
            answer = httpx.request(self.command, url + self.path, content=body, headers=headers, trust_env=False)
            if self.path.endswith(silent_after):
                took_effect.set()
            if took_effect.is_set():
                threading.Event().wait()
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers.get("content-type", ""))
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815  the base class's names

        def log_message(self, *args: Any) -> None:
            """The test's output is the service's."""

    return Handler
