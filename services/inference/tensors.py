"""Open Inference tensors to columns of Python values and back: typed `contents`, or raw little-endian bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Invalid
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2

_CONTENTS = {
    "BYTES": "bytes_contents",
    "INT64": "int64_contents",
    "FP64": "fp64_contents",
    "FP32": "fp32_contents",
}
_RAW_DTYPE: dict[str, np.dtype[Any]] = {"INT64": np.dtype("<i8"), "FP64": np.dtype("<f8"), "FP32": np.dtype("<f4")}

Values = Sequence[Any]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor must be. `width` None: shape [N] or [N, 1]; else [N, width]."""

    name: str
    datatype: str
    width: int | None = None

    @property
    def shape(self) -> str:
        """For people."""
        return "[N] or [N, 1]" if self.width is None else f"[N, {self.width}]"


@dataclass(frozen=True, slots=True)
class Decoded:
    """`values` by tensor: for BYTES a list of str, else of numbers, flat in row-major order; each has `rows` rows."""

    values: Mapping[str, Values]
    rows: int


def decode(request: v2.ModelInferRequest, specs: Mapping[str, TensorSpec], max_rows: int) -> Decoded:
    """The tensors of a call. Raises Invalid, naming the tensor, what was expected and what came.

    Every tensor must be one of `specs`; which of them must be there is the caller's to judge.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Invalid(f"raw_input_contents: expected one for each of the {len(request.inputs)} inputs, got {len(raw)}")
    values: dict[str, Values] = {}
    rows = 0
    for position, tensor in enumerate(request.inputs):
        spec = specs.get(tensor.name)
        if spec is None:
            raise Invalid(f"tensor {tensor.name!r}: unknown; expected {', '.join(sorted(specs))}")
        if tensor.name in values:
            raise Invalid(f"tensor {tensor.name!r}: expected once, got it twice")
        if tensor.datatype != spec.datatype:
            raise Invalid(f"tensor {tensor.name!r}: expected datatype {spec.datatype}, got {tensor.datatype!r}")
        count = _rows(tensor, spec, max_rows)
        if rows and count != rows:
            raise Invalid(f"tensor {tensor.name!r}: expected {rows} rows as in the tensors before, got {count}")
        rows = count
        values[tensor.name] = _values(tensor, spec, raw[position] if raw else None)
    return Decoded(values, rows)


def _rows(tensor: v2.ModelInferRequest.InferInputTensor, spec: TensorSpec, max_rows: int) -> int:
    shape = tensor.shape
    inner = list(shape[1:])
    if not shape or (inner not in ([], [1]) if spec.width is None else inner != [spec.width]):
        raise Invalid(f"tensor {spec.name!r}: expected shape {spec.shape}, got {list(shape)}")
    if not 1 <= shape[0] <= max_rows:
        raise Invalid(f"tensor {spec.name!r}: expected 1 to {max_rows} rows, got {shape[0]}")
    return int(shape[0])


def _values(tensor: v2.ModelInferRequest.InferInputTensor, spec: TensorSpec, raw: bytes | None) -> Values:
    if raw is None:
        found: Values = getattr(tensor.contents, _CONTENTS[spec.datatype])
    elif tensor.HasField("contents"):
        raise Invalid(f"tensor {spec.name!r}: expected contents or raw_input_contents, got both")
    else:
        found = _raw_bytes(raw, spec.name) if spec.datatype == "BYTES" else _raw_numbers(raw, spec)
    expected = tensor.shape[0] * (spec.width or 1)
    if len(found) != expected:
        where = "raw_input_contents" if raw is not None else _CONTENTS[spec.datatype]
        shape = list(tensor.shape)
        raise Invalid(
            f"tensor {spec.name!r}: expected {expected} elements in {where} for shape {shape}, got {len(found)}"
        )
    return _texts(found, spec.name) if spec.datatype == "BYTES" else found


def _raw_numbers(raw: bytes, spec: TensorSpec) -> Values:
    dtype = _RAW_DTYPE[spec.datatype]
    if len(raw) % dtype.itemsize:
        raise Invalid(
            f"tensor {spec.name!r}: expected raw_input_contents of a multiple of {dtype.itemsize} bytes, got {len(raw)}"
        )
    values: Values = np.frombuffer(raw, dtype).tolist()
    return values


def _raw_bytes(raw: bytes, name: str) -> list[bytes]:
    """Each element: 4 bytes of little-endian length, then the content."""
    found: list[bytes] = []
    at, end = 0, len(raw)
    while at < end:
        if end - at < 4:
            raise Invalid(f"tensor {name!r}: raw_input_contents end within a length at byte {at}")
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4
        if length > end - at:
            raise Invalid(f"tensor {name!r}: element {len(found)} has length {length}, got {end - at} bytes")
        found.append(raw[at : at + length])
        at += length
    return found


def _texts(found: Sequence[bytes], name: str) -> list[str]:
    try:
        return [element.decode() for element in found]
    except UnicodeDecodeError as error:
        raise Invalid(f"tensor {name!r}: expected UTF-8 text: {error}") from error


def encode_fp32(response: v2.ModelInferResponse, name: str, values: NDArray[np.float32], *, raw: bool) -> None:
    """Adds an output tensor FP32 [N], in raw bytes if the request was raw."""
    output = response.outputs.add(name=name, datatype="FP32", shape=values.shape)
    if raw:
        response.raw_output_contents.append(values.astype("<f4", copy=False).tobytes())
    else:
        output.contents.fp32_contents.extend(values.tolist())
