from __future__ import annotations

import struct

import numpy as np
import pytest

from services.chassis.errors import Invalid
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.tensors import TensorSpec, decode, encode_fp32

SPECS = {
    "key": TensorSpec("key", "BYTES"),
    "count": TensorSpec("count", "INT64"),
    "size": TensorSpec("size", "FP64"),
    "features": TensorSpec("features", "FP32", 2),
}


def raw_bytes(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def raw_request(*tensors: tuple[str, str, list[int], bytes]) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest()
    for name, datatype, shape, content in tensors:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(content)
    return request


def test_typed_contents_become_columns() -> None:
    request = v2.ModelInferRequest()
    request.inputs.add(name="key", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"a", "ü".encode()])
    request.inputs.add(name="count", datatype="INT64", shape=[2, 1]).contents.int64_contents.extend([7, -8])

    decoded = decode(request, SPECS, max_rows=10)

    assert decoded.rows == 2
    assert list(decoded.values["key"]) == ["a", "ü"]
    assert list(decoded.values["count"]) == [7, -8]


def test_raw_contents_become_the_same_columns() -> None:
    request = raw_request(
        ("key", "BYTES", [2], raw_bytes(b"a", b"")),
        ("count", "INT64", [2], struct.pack("<2q", 7, -(2**63))),
        ("size", "FP64", [2, 1], struct.pack("<2d", 0.1, 2.0)),
        ("features", "FP32", [2, 2], struct.pack("<4f", 1, 2, 3, 4)),
    )

    decoded = decode(request, SPECS, max_rows=10)

    assert {name: list(decoded.values[name]) for name in ("key", "count", "size")} == {
        "key": ["a", ""],
        "count": [7, -(2**63)],
        "size": [0.1, 2.0],
    }
    np.testing.assert_array_equal(decoded.values["features"], np.array([[1, 2], [3, 4]], np.float32))


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (("other", "BYTES", [1], raw_bytes(b"a")), "tensor 'other': unknown; expected count, features, key, size"),
        (("key", "FP32", [1], b"\0\0\0\0"), "tensor 'key': expected datatype BYTES, got 'FP32'"),
        (("key", "BYTES", [], raw_bytes(b"a")), "tensor 'key': expected shape [N] or [N, 1], got []"),
        (("key", "BYTES", [1, 2], raw_bytes(b"a", b"b")), "tensor 'key': expected shape [N] or [N, 1], got [1, 2]"),
        (("features", "FP32", [1, 3], b"\0" * 12), "tensor 'features': expected shape [N, 2], got [1, 3]"),
        (("features", "FP32", [2], b"\0" * 8), "tensor 'features': expected shape [N, 2], got [2]"),
        (("key", "BYTES", [0], b""), "tensor 'key': expected 1 to 3 rows, got 0"),
        (("key", "BYTES", [-1], b""), "tensor 'key': expected 1 to 3 rows, got -1"),
        (("key", "BYTES", [4], raw_bytes(*[b"a"] * 4)), "tensor 'key': expected 1 to 3 rows, got 4"),
        (("key", "BYTES", [2], raw_bytes(b"a")), "tensor 'key': expected 2 elements in raw_input_contents, got 1"),
        (("key", "BYTES", [1], b"\1\0"), "tensor 'key': raw_input_contents end within a length at byte 0"),
        (("key", "BYTES", [1], b"\xff\xff\xff\xffa"), "element 0 has length 4294967295, got 1 bytes"),
        (("key", "BYTES", [1], raw_bytes(b"\xff")), "tensor 'key': expected UTF-8 text"),
        (("count", "INT64", [1], b"\0" * 7), "expected 8 bytes for 1 elements of INT64 in raw_input_contents, got 7"),
        (("count", "INT64", [1], b"\0" * 16), "expected 8 bytes for 1 elements of INT64 in raw_input_contents, got 16"),
    ],
)
def test_what_is_wrong_is_named(tensor: tuple[str, str, list[int], bytes], complaint: str) -> None:
    with pytest.raises(Invalid) as error:
        decode(raw_request(tensor), SPECS, max_rows=3)

    assert complaint in str(error.value)


def test_too_few_typed_elements_are_refused() -> None:
    request = v2.ModelInferRequest()
    request.inputs.add(name="count", datatype="INT64", shape=[1]).contents.fp64_contents.append(1.0)

    with pytest.raises(Invalid, match="expected 1 elements in int64_contents"):
        decode(request, SPECS, max_rows=3)


def test_typed_and_raw_contents_are_never_mixed() -> None:
    request = raw_request(("count", "INT64", [1], struct.pack("<q", 1)))
    request.inputs[0].contents.int64_contents.append(1)

    with pytest.raises(Invalid, match="'count': expected contents or raw_input_contents, got both"):
        decode(request, SPECS, max_rows=3)


def test_raw_contents_must_be_there_for_every_input() -> None:
    request = raw_request(("count", "INT64", [1], struct.pack("<q", 1)))
    request.inputs.add(name="size", datatype="FP64", shape=[1])

    with pytest.raises(Invalid, match="one for each of the 2 inputs, got 1"):
        decode(request, SPECS, max_rows=3)


def test_tensors_agree_on_the_number_of_rows() -> None:
    request = raw_request(
        ("count", "INT64", [1], struct.pack("<q", 1)), ("size", "FP64", [2], struct.pack("<2d", 1, 2))
    )

    with pytest.raises(Invalid, match="'size': expected 1 rows as in the tensors before, got 2"):
        decode(request, SPECS, max_rows=3)


def test_a_tensor_comes_once() -> None:
    one = ("count", "INT64", [1], struct.pack("<q", 1))

    with pytest.raises(Invalid, match="'count': expected once, got it twice"):
        decode(raw_request(one, one), SPECS, max_rows=3)


@pytest.mark.parametrize("raw", [True, False])
def test_the_answer_is_raw_if_the_request_was(raw: bool) -> None:
    response = v2.ModelInferResponse()

    encode_fp32(response, "probability", np.array([0.25, 0.5], np.float32), raw=raw)

    assert list(response.outputs[0].shape) == [2] and response.outputs[0].datatype == "FP32"
    if raw:
        assert struct.unpack("<2f", response.raw_output_contents[0]) == (0.25, 0.5)
        assert not response.outputs[0].HasField("contents")
    else:
        assert list(response.outputs[0].contents.fp32_contents) == [0.25, 0.5]
