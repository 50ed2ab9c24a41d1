"""MLServer's runtime: what its documentation calls a custom one."""

from __future__ import annotations

from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]
from onnx_model import OUTPUT, OnnxModel  # type: ignore[import-not-found]


class Runtime(MLModel):  # type: ignore[misc]
    """One ONNX model."""

    async def load(self) -> bool:
        self._model = OnnxModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self._model.probabilities(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[NumpyCodec.encode_output(OUTPUT, found)])
