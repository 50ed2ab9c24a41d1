"""Whatever a request holds: it is read, or refused as the caller's mistake."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.errors import Invalid
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.call import CallReader
from services.inference.contract import parse_contract
from tests.support.tiny_models import contract_json
from tests.unit.inference.fakes import MODEL, NOW
from tests.unit.inference.test_inference_tensors import NUMBERS

CONTRACT = parse_contract(
    contract_json(request_fields=[{"name": "count", "datatype": "INT64"}, {"name": "size", "datatype": "FP64"}]), MODEL
)
NAMES = ["features", "parcel_id", "shop", "courier", "count", "size"]
DATATYPES = [*NUMBERS, "BYTES", ""]

contents = st.builds(
    v2.InferTensorContents,
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2),
    uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=2),
    int64_contents=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2),
    fp32_contents=st.lists(st.floats(width=32), max_size=4),
    fp64_contents=st.lists(st.floats(), max_size=2),
    bool_contents=st.lists(st.booleans(), max_size=2),
    bytes_contents=st.lists(st.binary(max_size=3), max_size=2),
)
parameters = st.dictionaries(
    st.sampled_from(["as_of", "priority", "shared_memory_region"]),
    st.builds(v2.InferParameter, string_param=st.text(max_size=30))
    | st.builds(v2.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
    max_size=2,
)
tensors = st.builds(
    v2.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(NAMES),
    datatype=st.sampled_from(DATATYPES),
    shape=st.lists(st.sampled_from([1, 2, 3]) | st.integers(-(2**63), 2**63 - 1), max_size=3),
    parameters=parameters,
    contents=st.none() | contents,
)
requests = st.builds(
    v2.ModelInferRequest,
    id=st.text(max_size=5),
    parameters=parameters,
    inputs=st.lists(tensors, max_size=6),
    outputs=st.lists(
        st.builds(
            v2.ModelInferRequest.InferRequestedOutputTensor,
            name=st.sampled_from(["probability", "other"]),
            parameters=parameters,
        ),
        max_size=2,
    ),
    raw_input_contents=st.lists(st.binary(max_size=24), max_size=6),
)


def reader() -> CallReader:
    return CallReader(CONTRACT, lambda: NOW, max_rows=4)


@settings(max_examples=300, deadline=None)
@given(requests)
def test_any_request_is_read_or_invalid(request: v2.ModelInferRequest) -> None:
    _read_or_invalid(request)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_good_request_with_damaged_bytes_is_read_or_invalid_or_no_message(data: st.DataObject) -> None:
    wire = bytearray(_good())
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = v2.ModelInferRequest.FromString(bytes(wire))
    except DecodeError:  # what gRPC answers then is not ours
        return
    _read_or_invalid(request)


def _read_or_invalid(request: v2.ModelInferRequest) -> None:
    try:
        call = reader().read(request)
    except Invalid:
        return
    rows = len(call.entity_ids)
    assert 1 <= rows <= 4 and call.prediction_id
    assert (call.vectors is None) != (call.entity_rows is None)
    if call.vectors is not None:
        assert call.vectors.shape == (rows, len(CONTRACT.features)) and call.vectors.dtype == "float32"
    else:
        assert call.entity_rows is not None
        assert [len(column) for column in call.entity_rows.columns] == [rows] * len(CONTRACT.columns)


def _good() -> bytes:
    request = v2.ModelInferRequest(model_name=MODEL, id="id")
    for name in ("parcel_id", "shop", "courier"):
        request.inputs.add(name=name, datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"a", b"b"])
    request.inputs.add(name="count", datatype="INT32", shape=[2]).contents.int_contents.extend([1, -2])
    request.inputs.add(name="size", datatype="FP32", shape=[2, 1]).contents.fp32_contents.extend([1.0, 2.0])
    assert reader().read(request).entity_rows is not None
    return request.SerializeToString()
