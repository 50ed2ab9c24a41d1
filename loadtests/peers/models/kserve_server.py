"""KServe's model server with gRPC; latency log and request log off, as its fastest documented way."""

from __future__ import annotations

import logging
import os
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer  # type: ignore[import-not-found]
from onnx_model import OUTPUT, OnnxModel  # type: ignore[import-not-found]


class Served(Model):  # type: ignore[misc]
    """One ONNX model; a request that came as binary data gets binary data."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._model = OnnxModel()
        self.ready = True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:  # noqa: ARG002
        found = self._model.probabilities(payload.inputs[0].as_numpy())
        output = InferOutput(name=OUTPUT, shape=list(found.shape), datatype="FP32")
        output.set_data_from_numpy(found, binary_data=payload.use_binary_outputs)
        return InferResponse(
            response_id=payload.id,
            model_name=self.name,
            infer_outputs=[output],
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    logging.disable(logging.INFO)
    ModelServer(
        http_port=int(os.environ["PEER_HTTP_PORT"]),
        grpc_port=int(os.environ["PEER_GRPC_PORT"]),
        workers=1,
        enable_grpc=True,
        enable_latency_logging=False,
    ).start([Served(os.environ["PEER_MODEL"])])
