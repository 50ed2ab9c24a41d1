"""The client: asks for predictions through Envoy as cheaply as Python can, and reads how far the features are.

A request's id is the question's own, so one that is asked again (a retry, a resume) is the same prediction, which
monitoring counts once.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import grpc

from loadtests.replay.questions import Question
from services.chassis.clock import from_proto, rfc3339
from services.chassis.errors import Unavailable
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2

ROUTING_KEY = "x-routing-key"
INFER = "/inference.GRPCInferenceService/ModelInfer"
METADATA = "/inference.GRPCInferenceService/ModelMetadata"
_CALL_TIMEOUT_S = 10.0
_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.1, 2.0
_TRY_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
CHANNEL: list[tuple[str, Any]] = [
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment is not meant for the loopback
    ("grpc.use_local_subchannel_pool", 1),  # else all channels to one address share a connection
    ("grpc.max_reconnect_backoff_ms", 1000),
]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `latency_s` is of the attempt that was answered."""

    probability: float
    version: str
    variant: str
    missing_features: int
    stale_features: int
    latency_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """What came back instead: the gRPC status by name, and the server's words."""

    status: str
    detail: str


class RequestForm:
    """Turns questions into bytes. What all requests share is serialized once: protobuf messages join by appending."""

    def __init__(self, metadata: v2.ModelMetadataResponse) -> None:
        shared = v2.ModelInferRequest(model_name=metadata.name)
        for tensor in metadata.inputs:
            shared.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[1])
        self._inputs = [(tensor.name, _ENCODE[tensor.datatype]) for tensor in metadata.inputs]
        self.shared = shared.SerializeToString(deterministic=True)

    def fill(self, question: Question, request_id: str = "") -> bytes:
        """The request of one row, in raw bytes; its id is the question's unless another is given.

        Raises AttributeError if the spine's event lacks an input.
        """
        own = v2.ModelInferRequest(
            id=request_id or question.id,
            raw_input_contents=[encode(getattr(question.payload, name)) for name, encode in self._inputs],
        )
        own.parameters["as_of"].string_param = rfc3339(question.as_of)
        return self.shared + own.SerializeToString()


class PredictionClient:
    """Asks over several connections. Use it in one event loop."""

    def __init__(self, address: str, model: str, *, connections: int, patience_s: float) -> None:
        self._address = address
        self._model = model
        self._patience_s = patience_s
        self._channels = [grpc.aio.insecure_channel(address, options=CHANNEL) for _ in range(connections)]
        self._infer: Iterator[Any] = itertools.cycle(
            [channel.unary_unary(INFER, None, v2.ModelInferResponse.FromString) for channel in self._channels]
        )
        self._form: RequestForm | None = None
        self._form_lock = asyncio.Lock()
        self.retried = 0

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def ask(self, question: Question) -> Answer | Failed:
        """Tries again while the service is unavailable or full, `patience_s` at most. Raises Unavailable if no model
        ever told what it takes."""
        deadline, pause_s = time.monotonic() + self._patience_s, _PAUSE_FIRST_S
        form = await self._current_form()
        while True:
            try:
                return await self._ask_once(form, question)
            except grpc.aio.AioRpcError as error:
                newer = await self._form_after(error, form)
                if newer is None and (error.code() not in _TRY_AGAIN or time.monotonic() > deadline):
                    return Failed(error.code().name, str(error.details()))
                form = newer or form
            self.retried += 1
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MOST_S)

    async def _ask_once(self, form: RequestForm, question: Question) -> Answer:
        request = form.fill(question)
        began = time.perf_counter()
        response = await next(self._infer)(
            request, metadata=((ROUTING_KEY, question.entity_id),), timeout=_CALL_TIMEOUT_S
        )
        return _answer(response, time.perf_counter() - began)

    async def _form_after(self, error: grpc.aio.AioRpcError, form: RequestForm) -> RequestForm | None:
        """After a refusal: what the served version takes, if that is not what we sent."""
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            return None
        if self._form is form:
            self._form = None
        newer = await self._current_form()
        return newer if newer.shared != form.shared else None

    async def _current_form(self) -> RequestForm:
        async with self._form_lock:
            if self._form is None:
                self._form = RequestForm(await self._model_metadata())
            return self._form

    async def _model_metadata(self) -> v2.ModelMetadataResponse:
        call = self._channels[0].unary_unary(
            METADATA, v2.ModelMetadataRequest.SerializeToString, v2.ModelMetadataResponse.FromString
        )
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                found: v2.ModelMetadataResponse = await call(
                    v2.ModelMetadataRequest(name=self._model), timeout=_CALL_TIMEOUT_S
                )
                return found
            except grpc.aio.AioRpcError as error:
                if time.monotonic() > deadline:
                    told = f"{error.code().name}: {error.details()}"
                    raise Unavailable(f"no model {self._model!r} serves at {self._address}: {told}") from error
            await asyncio.sleep(_PAUSE_FIRST_S)


class WatermarkClient:
    """How far the features service is."""

    def __init__(self, address: str, *, patience_s: float) -> None:
        self._address = address
        self._patience_s = patience_s
        self._answered_s = time.monotonic()
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL)
        self._stub = features_pb2_grpc.FeaturesServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._channel.close()

    async def watermark(self) -> datetime | None:
        """None before the first event, and while the service does not answer; Unavailable once it was away for long."""
        try:
            answer = await self._stub.GetWatermark(features_pb2.GetWatermarkRequest(), timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if time.monotonic() - self._answered_s > self._patience_s:
                told = f"{error.code().name}: {error.details()}"
                raise Unavailable(f"the features service at {self._address} does not answer: {told}") from error
            return None
        self._answered_s = time.monotonic()
        return from_proto(answer.watermark) if answer.HasField("watermark") else None


def _answer(response: v2.ModelInferResponse, latency_s: float) -> Answer:
    (probability,) = struct.unpack("<f", response.raw_output_contents[0])
    parameters = response.parameters
    return Answer(
        probability=probability,
        version=response.model_version,
        variant=parameters["variant"].string_param,
        missing_features=parameters["missing_features"].int64_param,
        stale_features=parameters["stale_features"].int64_param,
        latency_s=latency_s,
    )


def _text(value: object) -> bytes:
    """A BYTES element; null is the empty text."""
    content = b"" if value is None else str(value).encode()
    return struct.pack("<I", len(content)) + content


def _double(value: Any) -> bytes:
    return struct.pack("<d", float("nan") if value is None else value)


def _integer(value: Any) -> bytes:
    return struct.pack("<q", value)


_ENCODE: dict[str, Callable[[Any], bytes]] = {"BYTES": _text, "FP64": _double, "INT64": _integer}
