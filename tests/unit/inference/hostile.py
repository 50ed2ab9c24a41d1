"""Versions that must never serve, each with what is wrong with it."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper

from services.inference.refusal import Check
from tests.support.tiny_models import FEATURES, contract_json, external_data_onnx, logistic_onnx, onnx_of, sha256
from tests.unit.inference.fake_mlflow import Sent, endless

MAX_BYTES = 2_000_000
_FLOAT = TensorProto.FLOAT


@dataclass(frozen=True)
class Hostile:
    """What is registered, and what must be said of it."""

    check: Check
    reason: str
    onnx: bytes | Sent | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    """The rest of what `FakeMlflow.register` takes."""


def _tensor(name: str, dims: list[int], raw: bytes = b"") -> TensorProto:
    return TensorProto(name=name, data_type=_FLOAT, dims=dims, raw_data=raw)


def _external(location: str) -> TensorProto:
    tensor = TensorProto(name="weights", data_type=_FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def _node(op_type: str, inputs: list[str], outputs: list[str], **more: Any) -> NodeProto:
    return helper.make_node(op_type, inputs, outputs, **more)


def _score(output: str = "probability", read: str = "features") -> list[NodeProto]:
    """A probability for each row, gaps or not."""
    return [
        _node("Constant", [], ["nothing"], value_float=0.0),
        _node("IsNaN", [read], ["gaps"]),
        _node("Where", ["gaps", "nothing", read], ["known"]),
        _node("ReduceMean", ["known"], ["mean"], axes=[1], keepdims=0),
        _node("Sigmoid", ["mean"], [output]),
    ]


def _constant(name: str, value: Any, dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def _branch(*nodes: NodeProto, constants: list[TensorProto] | None = None) -> GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [helper.make_tensor_value_info("out", _FLOAT, None)], constants)


def _if(branch: GraphProto) -> list[NodeProto]:
    return [_node("If", ["yes"], ["probability"], then_branch=branch, else_branch=branch)]


def _loop(*nodes: NodeProto) -> list[NodeProto]:
    body = helper.make_graph(
        list(nodes),
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("out", _FLOAT, None),
        ],
    )
    return [_node("Loop", ["times", "yes"], ["probability"], body=body)]


_YES = _constant("yes", True, bool)
_TWICE = [_YES, _constant("times", 2, np.int64)]
_NOTHING = NodeProto(op_type="Neg", input=["features"])
_HUGE = _tensor("huge", [2**40])
_ACME = _node("Sigmoid", ["features"], ["out"], domain="com.acme", name="inner")
_ACME_OPSETS = {"": 17, "com.acme": 1}


def _with(change: Any) -> bytes:
    """The good model, changed."""
    model = ModelProto.FromString(logistic_onnx())
    change(model)
    content: bytes = model.SerializeToString()
    return content


def _nested(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph …, deeper than a protobuf library would write it."""
    graph = b""
    for _ in range(depth):
        graph = _field(1, _field(5, _field(6, graph)))
    return _field(7, graph) + ModelProto(ir_version=9, opset_import=[helper.make_opsetid("", 17)]).SerializeToString()


def _field(number: int, content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def _sparse() -> SparseTensorProto:
    indices = TensorProto(name="indices", data_type=TensorProto.INT64, dims=[1], int64_data=[0])
    return SparseTensorProto(values=_tensor("sparse", [1], b"\0\0\0\0"), indices=indices, dims=[2**40])


def _sized(input_shape: list[Any], **more: Any) -> bytes:
    inputs = [helper.make_tensor_value_info("features", _FLOAT, input_shape)]
    return onnx_of(_score(), inputs=inputs, **more)


def _input(name: str, data_type: int) -> bytes:
    inputs = [helper.make_tensor_value_info(name, data_type, ["N", len(FEATURES)])]
    nodes = [_node("Cast", [name], ["cast"], to=_FLOAT), *_score(read="cast")]
    return onnx_of(nodes, inputs=inputs)


def _output(nodes: list[NodeProto], data_type: int, name: str = "probability", shape: Any = None, **more: Any) -> bytes:
    return onnx_of(nodes, outputs=[helper.make_tensor_value_info(name, data_type, shape)], **more)


_GOOD, _OTHER = logistic_onnx(), logistic_onnx(bias=1.0)
_COLUMN = {"name": "shop", "datatype": "INT32"}

HOSTILE: dict[str, Hostile] = {
    # What comes over the wire.
    "a tag of another digest": Hostile(Check.DIGEST, "the version's tag says 0000", told={"digest": "0" * 64}),
    "no tag": Hostile(Check.DIGEST, "the tag slipway.onnx_sha256 says nothing", told={"digest": ""}),
    "a tag that is a path": Hostile(Check.DIGEST, "tag says ../../secret", told={"digest": "../../secret"}),
    "truncated after its digest was taken": Hostile(
        Check.DIGEST, "has digest", _OTHER[:-1], told={"digest": sha256(_OTHER)}
    ),
    "a claim of 2 GB": Hostile(
        Check.ARTIFACT,
        "model.onnx has 2147483648 bytes, expected at most 2000000",
        Sent(iter([b"x"]), {"content-length": "2147483648"}),
    ),
    "a stream without end": Hostile(Check.ARTIFACT, "more than 2000000 bytes", Sent(endless())),
    "more than it claims": Hostile(Check.ARTIFACT, "more than 2000000", Sent(endless(), {"content-length": "10"})),
    "a claim that is no number": Hostile(Check.ARTIFACT, "more than", Sent(endless(), {"content-length": "-1"})),
    "compressed on the way": Hostile(
        Check.ARTIFACT, "encoded as 'gzip'", Sent(iter([gzip.compress(_GOOD)]), {"content-encoding": "gzip"})
    ),
    "no model": Hostile(Check.ARTIFACT, "model.onnx does not exist", _OTHER, {"without": "model.onnx"}),
    "no contract": Hostile(Check.ARTIFACT, "contract.json does not exist", told={"without": "contract.json"}),
    "a contract without end": Hostile(
        Check.ARTIFACT, "contract.json has more than", told={"contract": Sent(endless())}
    ),
    "no source run": Hostile(Check.ARTIFACT, "has no source run", told={"run_id": ""}),
    "artifacts elsewhere": Hostile(Check.ARTIFACT, "artifacts at 's3'", told={"artifact_uri": "s3://bucket/x"}),
    # What it says that it needs.
    "a contract that is no JSON": Hostile(Check.CONTRACT, "contract.json: ", told={"contract": b"{"}),
    "a contract that is deep": Hostile(Check.CONTRACT, "contract.json: ", told={"contract": b"[" * 100_000}),
    "a contract of another model": Hostile(
        Check.CONTRACT, "is of model 'other', expected 'parcel-delay'", told={"contract": contract_json(model="other")}
    ),
    "a contract of other features": Hostile(
        Check.CONTRACT, "they differ at position 0", told={"contract": contract_json(features=["a", "b", "c"])}
    ),
    "a contract of other keys": Hostile(
        Check.CONTRACT, "join keys: the model was trained with []", told={"contract": contract_json(join_keys=[])}
    ),
    "a contract of an unknown datatype": Hostile(
        Check.CONTRACT, "join_keys.0.datatype", told={"contract": contract_json(join_keys=[_COLUMN])}
    ),
    # What kind of file it is.
    "an empty file": Hostile(Check.STRUCTURE, "model.onnx is empty", b""),
    "a pickle": Hostile(Check.STRUCTURE, "is a pickle", pickle.dumps({"weights": [1.0]})),
    "an archive": Hostile(Check.STRUCTURE, "is a zip archive", b"PK\x03\x04" + b"\0" * 40),
    "a compressed model": Hostile(Check.STRUCTURE, "is a gzip file", gzip.compress(_GOOD)),
    "an HDF5 file": Hostile(Check.STRUCTURE, "is an HDF5 file", b"\x89HDF\r\n\x1a\n" + b"\0" * 40),
    "a pointer to a file": Hostile(
        Check.STRUCTURE, "is an LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    ),
    "junk": Hostile(Check.STRUCTURE, "is damaged or no ONNX file", b"not a model"),
    "truncated": Hostile(Check.STRUCTURE, "is damaged or no ONNX file", _GOOD[:-1]),
    "no graph": Hostile(Check.STRUCTURE, "has no graph", ModelProto(ir_version=9).SerializeToString()),
    # What lies in other files.
    "external data beside it": Hostile(
        Check.STRUCTURE, "keeps tensor 'weights' in another file, 'weights.bin'", external_data_onnx("weights.bin")
    ),
    "external data above it": Hostile(
        Check.STRUCTURE, "in another file, '../weights.bin'", external_data_onnx("../weights.bin")
    ),
    "external data anywhere": Hostile(
        Check.STRUCTURE, "in another file, '/etc/passwd'", external_data_onnx("/etc/passwd")
    ),
    "external data behind a link": Hostile(Check.STRUCTURE, "in another file, 'link'", external_data_onnx("link")),
    "external data of a node": Hostile(
        Check.STRUCTURE,
        "keeps tensor 'weights' in another file",
        onnx_of([_node("Constant", [], ["w"], value=_external("w.bin")), *_score()]),
    ),
    "external data of a branch": Hostile(
        Check.STRUCTURE,
        "keeps tensor 'weights' in another file",
        onnx_of(_if(_branch(*_score("out"), constants=[_external("w.bin")])), [_YES]),
    ),
    # What it computes with.
    "a custom operator": Hostile(
        Check.STRUCTURE,
        "imports operators of 'com.acme', expected ai.onnx or ai.onnx.ml alone",
        onnx_of([_ACME, *_score()], opsets=_ACME_OPSETS),
    ),
    "a custom operator of an opset that is not imported": Hostile(
        Check.STRUCTURE, "uses operator com.acme.Sigmoid in node 'inner'", onnx_of([_ACME, *_score()])
    ),
    "a runtime's own operator": Hostile(
        Check.STRUCTURE,
        "uses operator com.microsoft.Gelu",
        onnx_of([_node("Gelu", ["features"], ["out"], domain="com.microsoft"), *_score()]),
    ),
    "an opset of training": Hostile(
        Check.STRUCTURE,
        "imports operators of 'ai.onnx.preview.training'",
        onnx_of(_score(), opsets={"": 17, "ai.onnx.preview.training": 1}),
    ),
    "a custom operator in a branch": Hostile(
        Check.STRUCTURE, "uses operator com.acme.Sigmoid", onnx_of(_if(_branch(_ACME)), [_YES])
    ),
    "a custom operator in a loop": Hostile(
        Check.STRUCTURE,
        "uses operator com.acme.Sigmoid",
        onnx_of(_loop(_ACME), _TWICE),
    ),
    "a custom operator in a branch of a loop": Hostile(
        Check.STRUCTURE,
        "uses operator com.acme.Sigmoid",
        onnx_of(_loop(*_if(_branch(_ACME))), _TWICE),
    ),
    "an operator that does not exist": Hostile(
        Check.TRIAL, "No Op registered for Acme", onnx_of([_node("Acme", ["features"], ["out"]), *_score()])
    ),
    "a function of its own": Hostile(
        Check.STRUCTURE,
        "brings functions of its own, like com.acme.twice",
        _with(lambda model: model.functions.add(name="twice", domain="com.acme")),
    ),
    "training info": Hostile(Check.STRUCTURE, "brings training info", _with(lambda model: model.training_info.add())),
    "an opset of the future": Hostile(
        Check.STRUCTURE, "imports opset 999 of ai.onnx, expected 7 to 28", onnx_of(_score(), opsets={"": 999})
    ),
    "an opset of the past": Hostile(
        Check.STRUCTURE, "imports opset 6 of ai.onnx, expected 7 to", onnx_of(_score(), opsets={"": 6})
    ),
    "another future opset": Hostile(
        Check.STRUCTURE,
        "imports opset 99 of ai.onnx.ml, expected 1 to 5",
        onnx_of(_score(), opsets={"": 17, "ai.onnx.ml": 99}),
    ),
    "no opset": Hostile(
        Check.STRUCTURE, "imports no operator set", _with(lambda model: model.ClearField("opset_import"))
    ),
    "a format of the future": Hostile(Check.TRIAL, "does not load: ", onnx_of(_score(), ir_version=99)),
    # How large it is.
    "a tensor of a terabyte": Hostile(
        Check.STRUCTURE,
        "claims shape [1099511627776] for tensor 'huge'",
        onnx_of(_score(), [_HUGE]),
    ),
    "a tensor whose size overflows": Hostile(
        Check.STRUCTURE,
        "claims shape [4294967296, 4294967296]",
        onnx_of(_score(), [_tensor("huge", [2**32, 2**32], b"\0\0\0\0")]),
    ),
    "a tensor of a negative size": Hostile(
        Check.STRUCTURE, "claims shape [-1, 3]", onnx_of(_score(), [_tensor("less", [-1, 3], b"\0" * 12)])
    ),
    "a tensor of too many dimensions": Hostile(
        Check.STRUCTURE, "claims 100000 dimensions", onnx_of(_score(), [_tensor("many", [1] * 100_000, b"\0\0\0\0")])
    ),
    "a tensor shorter than its shape": Hostile(
        Check.TRIAL,
        "does not load: ",
        onnx_of([*_score("s"), _node("Mul", ["s", "short"], ["probability"])], [_tensor("short", [1], b"\0\0")]),
    ),
    "a sparse tensor": Hostile(
        Check.STRUCTURE, "holds sparse tensors", _with(lambda model: model.graph.sparse_initializer.append(_sparse()))
    ),
    "a sparse tensor of a node": Hostile(
        Check.STRUCTURE,
        "holds sparse tensors in node 'made'",
        onnx_of([_node("Constant", [], ["w"], name="made", sparse_value=_sparse()), *_score()]),
    ),
    "a node of nothing": Hostile(
        Check.STRUCTURE, "holds a node without an operator", _with(lambda model: model.graph.node.add())
    ),
    "ninety thousand nodes": Hostile(
        Check.STRUCTURE,
        "holds more than 50000 nodes",
        _with(lambda model: model.graph.node.extend([_NOTHING] * 90_000)),
    ),
    "graphs within graphs": Hostile(Check.STRUCTURE, "is damaged or no ONNX file", _nested(100)),
    # What it takes and gives.
    "another input": Hostile(Check.SIGNATURE, "expected one input 'features'", _input("input", _FLOAT)),
    "an input of texts": Hostile(Check.SIGNATURE, "'tensor(string)'", _input("features", TensorProto.STRING)),
    "an input of doubles": Hostile(Check.SIGNATURE, "'tensor(double)'", _input("features", TensorProto.DOUBLE)),
    "two inputs": Hostile(
        Check.SIGNATURE,
        "expected one input 'features'",
        onnx_of(
            _score(),
            inputs=[helper.make_tensor_value_info(name, _FLOAT, ["N", 3]) for name in ("features", "more")],
        ),
    ),
    "another width": Hostile(Check.SIGNATURE, "float32 [N, 3]", logistic_onnx(weights=(1.0, 2.0))),
    "another rank": Hostile(Check.SIGNATURE, "float32 [N, 3]", _sized(["N", 3, 1], outputs=[])),
    "another output": Hostile(Check.SIGNATURE, "expected an output 'probability'", logistic_onnx(output="score")),
    "an output of doubles": Hostile(
        Check.SIGNATURE,
        "'tensor(double)'",
        _output([*_score("m"), _node("Cast", ["m"], ["probability"], to=TensorProto.DOUBLE)], TensorProto.DOUBLE),
    ),
    "an output of labels": Hostile(
        Check.SIGNATURE,
        "'tensor(int64)'",
        _output([*_score("m"), _node("Cast", ["m"], ["probability"], to=TensorProto.INT64)], TensorProto.INT64),
    ),
    # What it answers.
    "one row at a time": Hostile(Check.WARM_UP, "fails its warm-up run on 5 rows", _sized([1, 3])),
    "a column too many": Hostile(
        Check.WARM_UP,
        "gives shape [1, 3] for a row of 0.0, expected [1]",
        _output([_node("Sigmoid", ["features"], ["probability"])], _FLOAT),
    ),
    "one answer for all": Hostile(
        Check.WARM_UP,
        "gives shape [1] for 5 rows, expected [5]",
        _output([*_score("s"), _node("ReduceMax", ["s"], ["probability"])], _FLOAT),
    ),
    "no answer": Hostile(Check.WARM_UP, "warm-up run on a row of 0.0", logistic_onnx(bias=float("nan"))),
    "no answer to gaps": Hostile(
        Check.WARM_UP,
        "fails its warm-up run on a row of nan",
        onnx_of(
            [_node("ReduceMean", ["features"], ["m"], axes=[1], keepdims=0), _node("Sigmoid", ["m"], ["probability"])]
        ),
    ),
    "no probabilities": Hostile(
        Check.WARM_UP, "expected a probability in [0, 1]", onnx_of([*_score("m"), _node("Neg", ["m"], ["probability"])])
    ),
    "answers that depend on the neighbours": Hostile(
        Check.WARM_UP,
        "for a row alone and",
        onnx_of([*_score("m"), _node("Softmax", ["m"], ["probability"], axis=0)]),
    ),
}
