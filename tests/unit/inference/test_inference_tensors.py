from __future__ import annotations

import struct

import numpy as np
import pytest

from services.chassis.errors import Invalid
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.tensors import Decoded, TensorSpec, decode, decode_alone, encode_fp32

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


def test_empty_contents_beside_raw_ones_are_no_mixture() -> None:
    """MLServer's client sends them."""
    request = raw_request(("features", "FP32", [1, 2], struct.pack("<2f", 1, 2)))
    request.inputs[0].contents.SetInParent()

    np.testing.assert_array_equal(decode(request, SPECS, max_rows=3).values["features"], [[1, 2]])


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


NUMBERS = {
    "BOOL": ("<?", "bool_contents", [0, 1]),
    "INT8": ("<b", "int_contents", [-(2**7), 2**7 - 1]),
    "INT16": ("<h", "int_contents", [-(2**15), 2**15 - 1]),
    "INT32": ("<i", "int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("<q", "int64_contents", [-(2**63), 2**63 - 1]),
    "UINT8": ("<B", "uint_contents", [0, 2**8 - 1]),
    "UINT16": ("<H", "uint_contents", [0, 2**16 - 1]),
    "UINT32": ("<I", "uint_contents", [0, 2**32 - 1]),
    "UINT64": ("<Q", "uint64_contents", [0, 2**64 - 1]),
    "FP16": ("<e", "", [-65504.0, 2.0**-24]),
    "BF16": ("", "", [-(2.0**127), 1.0078125]),
    "FP32": ("<f", "fp32_contents", [-(2.0**127), 2.0**-149]),
    "FP64": ("<d", "fp64_contents", [-1.7e308, 5e-324]),
}
"""How each is packed, where it goes typed, and its widest values."""
LOSSLESS = {
    "count": {"BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32"},
    "size": {"BOOL", "INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32", "FP16", "BF16", "FP32", "FP64"},
    "features": {"BOOL", "INT8", "INT16", "UINT8", "UINT16", "FP16", "BF16", "FP32"},
}


def packed(datatype: str, values: list[float]) -> bytes:
    if datatype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return b"".join(struct.pack(NUMBERS[datatype][0], value) for value in values)


def numbers_request(name: str, datatype: str, values: list[float], *, raw: bool) -> v2.ModelInferRequest:
    """A row of two features, or two rows of a column."""
    shape = [1, 2] if name == "features" else [2]
    if raw:
        return raw_request((name, datatype, shape, packed(datatype, values)))
    request = v2.ModelInferRequest()
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    getattr(tensor.contents, NUMBERS[datatype][1]).extend(values)
    return request


def flat(decoded: Decoded, name: str) -> list[float]:
    values = decoded.values[name]
    return values.reshape(-1).tolist() if isinstance(values, np.ndarray) else list(values)


TAKEN = [
    (name, datatype, raw)
    for name in LOSSLESS
    for datatype in sorted(LOSSLESS[name])
    for raw in (True, False)
    if raw or NUMBERS[datatype][1]
]


@pytest.mark.parametrize(("name", "datatype", "raw"), TAKEN)
def test_a_type_whose_every_value_has_its_like_is_taken(name: str, datatype: str, raw: bool) -> None:
    values = NUMBERS[datatype][2]

    assert flat(decode(numbers_request(name, datatype, values, raw=raw), SPECS, 3), name) == values


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("name", "datatype"), [(name, each) for name in LOSSLESS for each in sorted(NUMBERS.keys() - LOSSLESS[name])]
)
def test_a_type_that_could_lose_something_is_refused(name: str, datatype: str, raw: bool) -> None:
    raw = raw or not NUMBERS[datatype][1]
    with pytest.raises(Invalid) as error:
        decode(numbers_request(name, datatype, [0, 1], raw=raw), SPECS, 3)

    expected = SPECS[name].datatype
    assert f"tensor {name!r}: expected datatype {expected}, got {datatype!r} (or what converts" in str(error.value)


@pytest.mark.parametrize("name", ["count", "size", "features"])
@pytest.mark.parametrize("datatype", ["BYTES", "STRING", "fp32", ""])
def test_what_is_no_number_is_refused(name: str, datatype: str) -> None:
    shape = [1, 2] if name == "features" else [2]
    with pytest.raises(Invalid, match=f"tensor '{name}': expected datatype .*, got '{datatype}'"):
        decode(raw_request((name, datatype, shape, raw_bytes(b"1", b"2"))), SPECS, 3)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_go_raw_only(datatype: str) -> None:
    request = v2.ModelInferRequest()
    request.inputs.add(name="size", datatype=datatype, shape=[1]).contents.fp32_contents.append(1.0)

    with pytest.raises(Invalid, match=f"'size': {datatype} has no typed contents, expected raw_input_contents"):
        decode(request, SPECS, max_rows=3)


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT16", -32769), ("UINT8", 256), ("UINT16", 65536)])
def test_a_typed_number_beyond_its_type_is_refused(datatype: str, value: int) -> None:
    with pytest.raises(Invalid, match=f"'count': expected {datatype} from .* to .*, got {value}"):
        decode(numbers_request("count", datatype, [0, value], raw=False), SPECS, max_rows=3)


def test_a_raw_boolean_is_zero_or_one() -> None:
    with pytest.raises(Invalid, match="'count': expected a BOOL of 0 or 1 in raw_input_contents, got 2"):
        decode(raw_request(("count", "BOOL", [2], b"\1\2")), SPECS, max_rows=3)


def test_a_tensor_has_contents_of_one_type() -> None:
    request = numbers_request("count", "INT64", [1, 2], raw=False)
    request.inputs[0].contents.fp64_contents.append(1.0)

    with pytest.raises(Invalid, match="'count': expected int64_contents alone for INT64, got fp64_contents too"):
        decode(request, SPECS, max_rows=3)


@pytest.mark.parametrize("raw", [True, False])
def test_elements_that_lie_in_shared_memory_are_refused_as_such(raw: bool) -> None:
    request = v2.ModelInferRequest()
    request.inputs.add(name="count", datatype="INT64", shape=[1]).parameters["shared_memory_region"].string_param = "r"
    if raw:
        request.inputs.add(name="size", datatype="FP64", shape=[1])
        request.raw_input_contents.append(struct.pack("<d", 1))

    with pytest.raises(Invalid, match="'count': expected its elements in the request, got shared_memory_region"):
        decode(request, SPECS, max_rows=3)


def test_the_raw_vector_alone_is_read_in_place() -> None:
    request = raw_request(("features", "FP32", [2, 2], struct.pack("<4f", 1, 2, 3, 4)))

    vectors = decode_alone(request, SPECS["features"], max_rows=3)

    assert vectors is not None and not vectors.flags.writeable
    np.testing.assert_array_equal(vectors, np.array([[1, 2], [3, 4]], np.float32))
    np.testing.assert_array_equal(vectors, decode(request, SPECS, max_rows=3).values["features"])


GOOD = ("features", "FP32", [1, 2], struct.pack("<2f", 1, 2))


@pytest.mark.parametrize(
    "other",
    [
        raw_request(("count", "FP32", [1, 2], GOOD[3])),
        raw_request(("features", "FP16", [1, 2], struct.pack("<2e", 1, 2))),
        raw_request(("features", "FP32", [2], GOOD[3])),
        raw_request(("features", "FP32", [2, 1], GOOD[3])),
        raw_request(("features", "FP32", [0, 2], b"")),
        raw_request(("features", "FP32", [4, 2], struct.pack("<8f", *range(8)))),
        raw_request(("features", "FP32", [2, 2], GOOD[3])),
        raw_request(GOOD, ("key", "BYTES", [1], raw_bytes(b"a"))),
        numbers_request("features", "FP32", [1, 2], raw=False),
        v2.ModelInferRequest(raw_input_contents=[GOOD[3]]),
        v2.ModelInferRequest(),
    ],
)
def test_every_other_call_is_left_to_who_says_what_is_wrong(other: v2.ModelInferRequest) -> None:
    assert decode_alone(other, SPECS["features"], max_rows=3) is None
