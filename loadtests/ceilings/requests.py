"""The Open Inference Protocol in bytes: what the generator sends over gRPC and REST, and how its replies are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import numpy as np
from numpy.typing import NDArray

from loadtests.ceilings.h2load import Call, framed
from loadtests.ceilings.model import INPUT
from loadtests.replay.client import CHANNEL, INFER, ROUTING_KEY
from services.chassis.errors import Unavailable
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2

KEY = "ceilings"
Reader = Callable[[bytes], NDArray[np.float32]]
"""Probabilities float32 [N] of a reply's body (of gRPC: the message without its frame)."""

_GRPC_FRAME_BYTES = 5
_TIMEOUT_S = 10.0
_HEADER_LENGTH = "inference-header-content-length"


def vector_request(model: str, vectors: NDArray[np.float32]) -> bytes:
    """ModelInfer of whole vectors in raw bytes."""
    request = v2.ModelInferRequest(model_name=model, id=KEY, raw_input_contents=[vectors.astype("<f4").tobytes()])
    request.inputs.add(name=INPUT, datatype="FP32", shape=vectors.shape)
    return request.SerializeToString()


def grpc_call(address: str, request: bytes) -> Call:
    """ModelInfer to `host:port`."""
    headers = {"content-type": "application/grpc", "te": "trailers", ROUTING_KEY: KEY}
    return Call(f"http://{address}{INFER}", framed(request), headers)


def binary_call(address: str, model: str, vectors: NDArray[np.float32], request_id: str = KEY) -> Call:
    """REST V2 with binary data in and out."""
    content = vectors.astype("<f4").tobytes()
    tensor = {
        "name": INPUT,
        "datatype": "FP32",
        "shape": vectors.shape,
        "parameters": {"binary_data_size": len(content)},
    }
    document = {"id": request_id, "parameters": {"binary_data_output": True}, "inputs": [tensor]}
    header = json.dumps(document).encode()
    headers = {"content-type": "application/octet-stream", _HEADER_LENGTH: str(len(header)), ROUTING_KEY: KEY}
    return Call(f"http://{address}/v2/models/{model}/infer", header + content, headers, http1=True)


def json_call(url: str, document: object) -> Call:
    """JSON over HTTP/1.1."""
    return Call(url, json.dumps(document).encode(), {"content-type": "application/json"}, http1=True)


def v2_json_call(address: str, model: str, vectors: NDArray[np.float32], request_id: str = KEY) -> Call:
    """REST V2 with the values in the JSON."""
    tensor = {"name": INPUT, "datatype": "FP32", "shape": vectors.shape, "data": _values(vectors)}
    return json_call(f"http://{address}/v2/models/{model}/infer", {"id": request_id, "inputs": [tensor]})


def _values(vectors: NDArray[np.float32]) -> list[float | None]:
    """Row by row; JSON has no NaN, so that it is null."""
    return [None if np.isnan(value) else float(value) for value in vectors.ravel()]


def ask(call: Call, within_s: float = _TIMEOUT_S) -> tuple[bytes, int]:
    """One reply by a client that checks what it gets: its content, and its bytes on the wire.

    Raises Unavailable with the server's words.
    """
    return _ask_http(call, within_s) if call.http1 else _ask_grpc(call, within_s)


def read_grpc(content: bytes) -> NDArray[np.float32]:
    """Of a ModelInferResponse, raw or typed."""
    response = v2.ModelInferResponse.FromString(content)
    if response.raw_output_contents:
        return np.frombuffer(response.raw_output_contents[0], "<f4")
    return np.array(response.outputs[0].contents.fp32_contents, np.float32)


def read_v2_json(content: bytes) -> NDArray[np.float32]:
    """Of a REST V2 reply without binary data."""
    return np.array(json.loads(content)["outputs"][0]["data"], np.float32)


def read_binary(content: bytes) -> NDArray[np.float32]:
    """Of a REST V2 reply whose one output is binary data, which stands at its end."""
    header, _ = json.JSONDecoder().raw_decode(content.decode("latin-1"))
    (output,) = header["outputs"]
    return np.frombuffer(content[-int(output["parameters"]["binary_data_size"]) :], "<f4")


def _ask_grpc(call: Call, within_s: float) -> tuple[bytes, int]:
    address = call.url.removeprefix("http://").removesuffix(INFER)
    with grpc.insecure_channel(address, options=CHANNEL) as channel:
        try:
            infer: Any = channel.unary_unary(INFER)
            reply: bytes = infer(
                call.body[_GRPC_FRAME_BYTES:],
                metadata=((ROUTING_KEY, call.headers[ROUTING_KEY]),),
                timeout=within_s,
                wait_for_ready=True,
            )
        except grpc.RpcError as error:
            raise Unavailable(f"{call.url}: {error.code().name}: {error.details()}") from error
    return reply, _GRPC_FRAME_BYTES + len(reply)


def _ask_http(call: Call, within_s: float) -> tuple[bytes, int]:
    headers = {"accept-encoding": "identity", **call.headers}
    try:
        answer = httpx.post(call.url, content=call.body, headers=headers, timeout=within_s, trust_env=False)
    except httpx.HTTPError as error:
        raise Unavailable(f"{call.url}: {error or type(error).__name__}") from error
    if not answer.is_success:
        raise Unavailable(f"{call.url}: {answer.status_code} {answer.text[:300]}")
    return answer.content, len(answer.content)
