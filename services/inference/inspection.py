"""What an ONNX file may hold, looked up in the file itself: surprises are refused before a runtime sees them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from google.protobuf.message import DecodeError

from services.contracts.onnx.v1 import model_structure_pb2 as structure
from services.inference.refusal import Check, Refused

OPSETS = {"ai.onnx": range(7, 29), "ai.onnx.ml": range(1, 6)}
"""By operator domain, what the pinned onnxruntime supports (it promises nothing before opset 7)."""

_EXTERNAL = 1
_MAX_RANK, _MAX_NODES = 16, 50_000
_OTHER_FORMATS = {
    "a pickle": (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
    "a zip archive": (b"PK\x03\x04",),
    "an HDF5 file": (b"\x89HDF",),
    "a gzip file": (b"\x1f\x8b",),
    "an LFS pointer": (b"version https://git-lfs",),
}


def inspect(onnx: bytes) -> None:
    """Raises Refused, naming what is wrong, unless the file is whole in itself and of standard operators.

    Parses the file without its numbers: memory of the order of the file.
    """
    _check_format(onnx)
    model = structure.ModelProto()
    try:
        model.ParseFromString(onnx)
    except DecodeError as error:
        raise _refused(f"is damaged or no ONNX file: {error}") from error
    if not model.HasField("graph"):
        raise _refused("has no graph")
    if model.functions:
        function = model.functions[0]
        raise _refused(f"brings functions of its own, like {function.domain}.{function.name}; inline them")
    if model.training_info:
        raise _refused("brings training info; export the model for inference")
    _check_opsets(model)
    nodes = 0
    for graph in _graphs(model.graph):
        nodes += len(graph.node)
        if nodes > _MAX_NODES:
            raise _refused(f"holds more than {_MAX_NODES} nodes")
        if graph.sparse_initializer:
            raise _refused("holds sparse tensors, whose dense size nothing bounds; export them dense")
        for tensor in graph.initializer:
            _check_tensor(tensor, len(onnx))
        for node in graph.node:
            _check_node(node, len(onnx))


def _refused(why: str) -> Refused:
    return Refused(Check.STRUCTURE, f"model.onnx {why}")


def _check_format(onnx: bytes) -> None:
    if not onnx:
        raise _refused("is empty")
    for what, beginnings in _OTHER_FORMATS.items():
        if onnx.startswith(beginnings):
            raise _refused(f"is {what}, expected an ONNX file; nothing else is ever loaded")


def _check_opsets(model: structure.ModelProto) -> None:
    if not model.opset_import:
        raise _refused("imports no operator set")
    for opset in model.opset_import:
        domain = _domain(opset.domain)
        if domain not in OPSETS:
            raise _refused(f"imports operators of {domain!r}, expected {' or '.join(OPSETS)} alone")
        known = OPSETS[domain]
        if opset.version not in known:
            raise _refused(f"imports opset {opset.version} of {domain}, expected {known.start} to {known.stop - 1}")


def _check_node(node: structure.NodeProto, file_bytes: int) -> None:
    domain, where = _domain(node.domain), f"node {node.name!r}" if node.name else "a node"
    if not node.op_type:
        raise _refused("holds a node without an operator")
    if domain not in OPSETS:
        what = f"uses operator {domain}.{node.op_type} in {where}"
        raise _refused(f"{what}, expected those of {' or '.join(OPSETS)} alone")
    for attribute in node.attribute:
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise _refused(f"holds sparse tensors in {where}, whose dense size nothing bounds; export them dense")
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            _check_tensor(tensor, file_bytes)


def _check_tensor(tensor: structure.TensorProto, file_bytes: int) -> None:
    if tensor.data_location == _EXTERNAL or tensor.external_data:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        raise _refused(f"keeps tensor {tensor.name!r} in another file, {location!r}; put it inside")
    if len(tensor.dims) > _MAX_RANK:
        raise _refused(f"claims {len(tensor.dims)} dimensions for tensor {tensor.name!r}, expected at most {_MAX_RANK}")
    # The densest type has two elements in a byte.
    if min(tensor.dims, default=0) < 0 or prod(tensor.dims) > 2 * file_bytes:
        shape = list(tensor.dims)
        raise _refused(f"claims shape {shape} for tensor {tensor.name!r}, more than its {file_bytes} bytes can hold")


def _domain(name: str) -> str:
    return name or "ai.onnx"


def _graphs(graph: structure.GraphProto) -> Iterator[structure.GraphProto]:
    """The graph and those within its nodes, at any depth (which the parser bounds)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)
