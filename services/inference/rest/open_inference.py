"""The Open Inference Protocol in JSON, with its binary extension, to and from its protobuf messages.

With the extension a body is JSON and then raw tensors back to back; the header `Inference-Header-Content-Length` says
where the JSON ends, the parameter `binary_data_size` of a tensor how many of the bytes are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from google.protobuf.internal.containers import MessageMap
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from services.chassis.errors import Invalid
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.rest.elements import from_raw, raw_size, to_raw

HEADER_LENGTH = b"inference-header-content-length"
_INT64, _UINT64 = 2**63, 2**64
_MAX_DIMENSIONS = 16
# How many heads of requests are remembered, and of which length at most.
_KNOWN, _LONGEST_KNOWN = 256, 4096

Parameters = dict[str, bool | int | float | str]
Body = TypeVar("Body", bound=BaseModel)


class JsonBody(BaseModel):
    """Base of what is read from JSON: types are not coerced, parameters are finite, what is unknown is left alone."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Input(JsonBody):
    name: str
    datatype: str
    shape: list[Annotated[int, Field(ge=0, lt=_INT64)]] = Field(max_length=_MAX_DIMENSIONS)
    parameters: Parameters = {}
    data: list[Any] | None = None


class _Output(JsonBody):
    name: str
    parameters: Parameters = {}


class _InferBody(JsonBody):
    id: str = ""
    parameters: Parameters = {}
    inputs: list[_Input]
    outputs: list[_Output] = []


def read_json(kind: type[Body], body: bytes) -> Body:
    """Raises Invalid, naming the first field that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise Invalid(_first_complaint(error)) from error


def _first_complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return f"body: {first['msg']}"
    # The last word of a union's place is the type that was tried.
    where = ".".join(str(part) for part in first["loc"] if part not in ("bool", "int", "float", "str")) or "body"
    if first["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {first['msg']}, got {repr(first['input'])[:80]}"


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """What the JSON asks for. `parts` are the raw tensors in order: their bytes, or how many of the binary data."""

    request: v2.ModelInferRequest
    parts: tuple[bytes | int, ...]


def read_request(model: str, version: str, body: bytes, header_length: bytes | None) -> v2.ModelInferRequest:
    """The call that a body asks for; all tensors are raw, so that all answers are. Raises Invalid."""
    head, binary = _split(body, header_length)
    # With binary data the JSON of one client's calls is the same again and again.
    layout = (_known_layout if binary and len(head) <= _LONGEST_KNOWN else _layout)(model, version, head)
    request = v2.ModelInferRequest()
    request.CopyFrom(layout.request)
    at = 0
    for part in layout.parts:
        if isinstance(part, bytes):
            request.raw_input_contents.append(part)
        else:
            request.raw_input_contents.append(binary[at : at + part])
            at += part
    if at != len(binary):
        raise Invalid(f"body: expected {at} bytes of binary data by the tensors' binary_data_size, got {len(binary)}")
    return request


def _split(body: bytes, header_length: bytes | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not (header_length.isdigit() and int(header_length[:12]) <= len(body)):
        got = header_length[:80].decode("latin-1")
        raise Invalid(f"{HEADER_LENGTH.decode()}: expected at most the body's {len(body)} bytes, got {got!r}")
    length = int(header_length)
    return body[:length], body[length:]


def _layout(model: str, version: str, head: bytes) -> _Layout:
    asked = read_json(_InferBody, head)
    request = v2.ModelInferRequest(model_name=model, model_version=version, id=asked.id)
    put_parameters(request.parameters, asked.parameters, "parameter")
    for tensor in asked.inputs:
        added = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        put_parameters(added.parameters, tensor.parameters, f"tensor {tensor.name!r}: parameter")
    for output in asked.outputs:
        wanted = request.outputs.add(name=output.name)
        put_parameters(wanted.parameters, output.parameters, f"output {output.name!r}: parameter")
    return _Layout(request, tuple([_part(tensor) for tensor in asked.inputs]))


_known_layout = lru_cache(_KNOWN)(_layout)


def _part(tensor: _Input) -> bytes | int:
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return _from_json(tensor)
    where = f"tensor {tensor.name!r}"
    if tensor.data is not None:
        raise Invalid(f"{where}: expected data or binary_data_size, got both")
    if type(size) is not int or size < 0:
        raise Invalid(f"{where}: expected binary_data_size to be a whole number from 0, got {repr(size)[:80]}")
    expected = raw_size(tensor.datatype, tensor.shape)
    if expected not in (None, size):
        what = f"{expected} bytes of binary data for {tensor.datatype} of shape {tensor.shape}, got {size}"
        raise Invalid(f"{where}: expected {what}")
    return size


def _from_json(tensor: _Input) -> bytes:
    if tensor.data is None:
        raise Invalid(f"tensor {tensor.name!r}: expected data or the parameter binary_data_size, got neither")
    return to_raw(tensor.name, tensor.datatype, tensor.shape, tensor.data)


def put_parameters(target: MessageMap[str, v2.InferParameter], given: Parameters, what: str) -> None:
    """Each as the choice that holds its JSON type. Raises Invalid for a whole number beyond 64 bits."""
    for name, value in given.items():
        parameter = target[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, str):
            parameter.string_param = value
        elif isinstance(value, float):
            parameter.double_param = value
        elif -_INT64 <= value < _INT64:
            parameter.int64_param = value
        elif 0 <= value < _UINT64:
            parameter.uint64_param = value
        else:
            raise Invalid(f"{what} {name!r}: expected at most 64 bits, got {repr(value)[:80]}")


def get_parameters(given: Mapping[str, v2.InferParameter]) -> Parameters:
    """As JSON values."""
    return {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in given.items()}


def write_response(request: v2.ModelInferRequest, response: v2.ModelInferResponse) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON if binary data follows it: for each output as the request wants it."""
    answer: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        answer["id"] = response.id
    answer["parameters"] = get_parameters(response.parameters)
    binary: list[bytes] = []
    answer["outputs"] = outputs = []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        told: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if _wants_binary(request, output.name):
            told["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            told["data"] = from_raw(output.datatype, raw)
        outputs.append(told)
    head = to_json(answer)
    return (b"".join((head, *binary)), len(head)) if binary else (head, None)


def _wants_binary(request: v2.ModelInferRequest, output: str) -> bool:
    for asked in request.outputs:
        if asked.name == output and "binary_data" in asked.parameters:
            return asked.parameters["binary_data"].bool_param
    return "binary_data_output" in request.parameters and request.parameters["binary_data_output"].bool_param
