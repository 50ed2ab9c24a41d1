"""ONNX models that fit on one line, and the contract that goes with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FEATURES = ("courier_recent__delivered_1h", "courier_recent__delay_mean_6h", "parcel_request__weight")
CONTRACT: dict[str, Any] = {
    "model": "parcel-delay",
    "feature_service": "parcel_delay_v1",
    "entity_id": "parcel_id",
    "join_keys": [{"name": "shop", "datatype": "BYTES"}, {"name": "courier", "datatype": "BYTES"}],
    "request_fields": [{"name": "pickup_at", "datatype": "BYTES"}, {"name": "weight_kg", "datatype": "FP64"}],
    "features": list(FEATURES),
}


def contract_json(**changes: Any) -> bytes:
    """The contract of the tiny problem, with some keys changed."""
    return json.dumps(CONTRACT | changes).encode()


def sha256(content: bytes) -> str:
    """The digest in lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def logistic_onnx(
    weights: Sequence[float] = (0.5, -0.25, 0.125), bias: float = 0.0, output: str = "probability"
) -> bytes:
    """sigmoid(features · weights + bias) with NaN as 0: float32 [N, F] to float32 [N]."""
    width = len(weights)
    constants = [
        numpy_helper.from_array(np.array(weights, np.float32), "weights"),
        numpy_helper.from_array(np.array(bias, np.float32), "bias"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
    ]
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "logistic",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N"])],
        constants,
    )
    return _serialized(graph)


def moody_onnx(mood: float = 42.0) -> bytes:
    """0.5, but the second feature whatever it is where the first is `mood`: for models that give nonsense late."""
    constants = [
        numpy_helper.from_array(np.array(0, np.int64), "first"),
        numpy_helper.from_array(np.array(1, np.int64), "second"),
        numpy_helper.from_array(np.array(mood, np.float32), "mood"),
        numpy_helper.from_array(np.array(0.5, np.float32), "half"),
    ]
    nodes = [
        helper.make_node("Gather", ["features", "first"], ["a"], axis=1),
        helper.make_node("Gather", ["features", "second"], ["b"], axis=1),
        helper.make_node("Equal", ["a", "mood"], ["moody"]),
        helper.make_node("Where", ["moody", "b", "half"], ["probability"]),
    ]
    return onnx_of(nodes, constants)


def onnx_of(
    nodes: Sequence[Any],
    constants: Sequence[Any] = (),
    *,
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    opsets: Mapping[str, int] | None = None,
    **model: Any,
) -> bytes:
    """A model of these nodes, by default of the tiny problem's signature. `model`: further fields of the ModelProto."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(FEATURES)])]
        if inputs is None
        else inputs,
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])] if outputs is None else outputs,
        constants,
    )
    opset_imports = [helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 17}).items()]
    made = helper.make_model(graph, opset_imports=opset_imports, **({"ir_version": 9} | model))
    content: bytes = made.SerializeToString()
    return content


def external_data_onnx(location: str) -> bytes:
    """A model whose weights lie in another file."""
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[len(FEATURES)])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(4 * len(FEATURES)))):
        weights.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "weights"], ["probability"])],
        "external",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(FEATURES)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])],
        [weights],
    )
    return _serialized(graph)


def _serialized(graph: Any) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    content: bytes = model.SerializeToString()
    return content
