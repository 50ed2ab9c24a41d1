"""What everything is held against: `grpc.aio`, the protocol's ModelInfer, onnxruntime, and nothing else.

`python -m loadtests.ceilings.reference MODEL.onnx PORT`
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from loadtests.ceilings.model import INPUT, OUTPUT, session
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc


class Reference(v2_grpc.GRPCInferenceServiceServicer):
    """Trusts every request."""

    def __init__(self, onnx: bytes) -> None:
        self._session = session(onnx)

    async def ModelInfer(self, request: v2.ModelInferRequest, context: Any) -> v2.ModelInferResponse:  # noqa: ARG002
        vectors = np.frombuffer(request.raw_input_contents[0], "<f4").reshape(request.inputs[0].shape)
        found = self._session.run([OUTPUT], {INPUT: vectors})[0]
        response = v2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        response.outputs.add(name=OUTPUT, datatype="FP32", shape=found.shape)
        response.raw_output_contents.append(found.tobytes())
        return response


async def serve(onnx: bytes, port: int) -> None:
    """Until the process is ended."""
    server = grpc.aio.server()
    v2_grpc.add_GRPCInferenceServiceServicer_to_server(Reference(onnx), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes(), int(sys.argv[2])))
