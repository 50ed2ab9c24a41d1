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
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_DTYPE: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("u1"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_FP32 = _DTYPE["FP32"]
_SMALL = ("BOOL", "INT8", "INT16", "UINT8", "UINT16")
_LOSSLESS: dict[str, frozenset[str]] = {
    "BYTES": frozenset({"BYTES"}),
    "INT64": frozenset({"INT64", "INT32", "UINT32", *_SMALL}),
    "FP64": frozenset({"FP64", "FP32", "FP16", "BF16", "INT32", "UINT32", *_SMALL}),
    "FP32": frozenset({"FP32", "FP16", "BF16", *_SMALL}),
}
"""By what a tensor must be: what it may come as, since every value of that type has its like there."""
_SHARED_MEMORY = "shared_memory_region"

Values = Sequence[Any] | NDArray[Any]


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
    """`values` by tensor, each of `rows` rows: an array [N, width], or without a width a sequence of str or numbers."""

    values: Mapping[str, Values]
    rows: int


def decode(request: v2.ModelInferRequest, specs: Mapping[str, TensorSpec], max_rows: int) -> Decoded:
    """The tensors of a call. Raises Invalid, naming the tensor, what was expected and what came.

    Every tensor must be one of `specs`; which of them must be there is the caller's to judge.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        _refuse_shared_memory(*request.inputs)
        raise Invalid(f"raw_input_contents: expected one for each of the {len(request.inputs)} inputs, got {len(raw)}")
    values: dict[str, Values] = {}
    rows = 0
    for position, tensor in enumerate(request.inputs):
        name = tensor.name
        spec = specs.get(name)
        if spec is None:
            raise Invalid(f"tensor {name!r}: unknown; expected {', '.join(sorted(specs))}")
        if name in values:
            raise Invalid(f"tensor {name!r}: expected once, got it twice")
        count = _rows(tensor, spec, max_rows)
        if rows and count != rows:
            raise Invalid(f"tensor {name!r}: expected {rows} rows as in the tensors before, got {count}")
        rows = count
        values[name] = _values(tensor, spec, count, raw[position] if raw else None)
    return Decoded(values, rows)


def decode_alone(request: v2.ModelInferRequest, spec: TensorSpec, max_rows: int) -> NDArray[np.float32] | None:
    """The raw FP32 tensor `spec` of a call that brings nothing else, without a copy; None for any other call.

    It is what most callers send: a fifth of the cost of `decode`, which also says what is wrong.
    """
    inputs, raw = request.inputs, request.raw_input_contents
    if len(inputs) != 1 or len(raw) != 1:
        return None
    tensor, content = inputs[0], raw[0]
    shape = tensor.shape
    if tensor.name != spec.name or tensor.datatype != "FP32" or len(shape) != 2 or tensor.HasField("contents"):
        return None
    rows, width = shape
    if width != spec.width or not 1 <= rows <= max_rows or len(content) != 4 * rows * width:
        return None
    return np.ndarray((rows, width), _FP32, content)


def _rows(tensor: v2.ModelInferRequest.InferInputTensor, spec: TensorSpec, max_rows: int) -> int:
    shape = list(tensor.shape)
    inner = shape[1:]
    if not shape or (inner not in ([], [1]) if spec.width is None else inner != [spec.width]):
        raise Invalid(f"tensor {spec.name!r}: expected shape {spec.shape}, got {shape}")
    if not 1 <= shape[0] <= max_rows:
        raise Invalid(f"tensor {spec.name!r}: expected 1 to {max_rows} rows, got {shape[0]}")
    return int(shape[0])


def _values(tensor: v2.ModelInferRequest.InferInputTensor, spec: TensorSpec, rows: int, raw: bytes | None) -> Values:
    datatype = tensor.datatype
    if datatype not in _LOSSLESS[spec.datatype]:
        raise Invalid(_other_datatype(spec, datatype))
    if raw is None:
        return _typed(tensor, spec, datatype, rows)
    # MLServer's client sends contents without any beside what it sends raw.
    if tensor.HasField("contents") and tensor.contents.ListFields():
        raise Invalid(f"tensor {spec.name!r}: expected contents or raw_input_contents, got both")
    if datatype == "BYTES":
        return _texts(_raw_bytes(raw, spec.name, rows), spec.name)
    array = _raw_numbers(raw, spec, datatype, rows)
    return array.tolist() if spec.width is None else array.astype(np.float32, copy=False).reshape(rows, spec.width)


def _other_datatype(spec: TensorSpec, datatype: str) -> str:
    others = ", ".join(name for name in _DTYPE if name in _LOSSLESS[spec.datatype] and name != spec.datatype)
    without_loss = f" (or what converts without loss: {others})" if others else ""
    return f"tensor {spec.name!r}: expected datatype {spec.datatype}, got {datatype!r}{without_loss}"


def _raw_numbers(raw: bytes, spec: TensorSpec, datatype: str, rows: int) -> NDArray[Any]:
    dtype = _DTYPE[datatype]
    count = rows * (spec.width or 1)
    if len(raw) != count * dtype.itemsize:
        what = f"{count * dtype.itemsize} bytes for {count} elements of {datatype}"
        raise Invalid(f"tensor {spec.name!r}: expected {what} in raw_input_contents, got {len(raw)} bytes")
    array: NDArray[Any] = np.frombuffer(raw, dtype)
    if datatype == "BF16":
        # The upper half of a float32.
        return (array.astype("<u4") << 16).view("<f4")
    if datatype == "BOOL" and array.max() > 1:
        raise Invalid(f"tensor {spec.name!r}: expected a BOOL of 0 or 1 in raw_input_contents, got {array.max()}")
    return array


def _typed(tensor: v2.ModelInferRequest.InferInputTensor, spec: TensorSpec, datatype: str, rows: int) -> Values:
    if datatype not in _CONTENTS:
        raise Invalid(f"tensor {spec.name!r}: {datatype} has no typed contents, expected raw_input_contents")
    field = _CONTENTS[datatype]
    found: Sequence[Any] = getattr(tensor.contents, field)
    count = rows * (spec.width or 1)
    if len(found) != count:
        _refuse_shared_memory(tensor)
        shape = list(tensor.shape)
        raise Invalid(f"tensor {spec.name!r}: expected {count} elements in {field} for shape {shape}, got {len(found)}")
    if len(tensor.contents.ListFields()) > 1:
        others = ", ".join(other.name for other, _ in tensor.contents.ListFields() if other.name != field)
        raise Invalid(f"tensor {spec.name!r}: expected {field} alone for {datatype}, got {others} too")
    if field in ("int_contents", "uint_contents"):
        _check_range(found, spec.name, datatype)
    if datatype == "BYTES":
        return _texts(found, spec.name)
    if spec.width is None:
        return found
    return np.fromiter(found, np.float32, count).reshape(rows, spec.width)


def _refuse_shared_memory(*tensors: v2.ModelInferRequest.InferInputTensor) -> None:
    for tensor in tensors:
        if _SHARED_MEMORY in tensor.parameters:
            raise Invalid(f"tensor {tensor.name!r}: expected its elements in the request, got {_SHARED_MEMORY}")


def _check_range(found: Sequence[int], name: str, datatype: str) -> None:
    limits = np.iinfo(_DTYPE[datatype])
    for value in (min(found), max(found)):
        if not limits.min <= value <= limits.max:
            raise Invalid(f"tensor {name!r}: expected {datatype} from {limits.min} to {limits.max}, got {value}")


def _raw_bytes(raw: bytes, name: str, rows: int) -> list[bytes]:
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
    if len(found) != rows:
        raise Invalid(f"tensor {name!r}: expected {rows} elements in raw_input_contents, got {len(found)}")
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
