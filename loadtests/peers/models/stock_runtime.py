"""MLServer's runtime for keys: asks `feast serve` for the features, then runs the model.

What no feature view has (what is computed from the request) stays unknown: that spares it work.
"""

from __future__ import annotations

import json
import os
from typing import Any

import aiohttp
import numpy as np
from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec, StringCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]
from onnx_model import OUTPUT, OnnxModel  # type: ignore[import-not-found]


class Runtime(MLModel):  # type: ignore[misc]
    """Keys in, probabilities out."""

    async def load(self) -> bool:
        self._model = OnnxModel()
        self._asked = json.loads(os.environ["STOCK_FEATURES"])
        self._width = int(os.environ["STOCK_WIDTH"])
        self._join_keys = json.loads(os.environ["STOCK_JOIN_KEYS"])
        self._http = aiohttp.ClientSession(os.environ["STOCK_FEAST"], raise_for_status=True)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensors = {tensor.name: tensor for tensor in payload.inputs}
        entities = {name: StringCodec.decode_input(tensors[name]) for name in self._join_keys}
        asked = {"features": list(self._asked), "entities": entities, "full_feature_names": True}
        async with self._http.post("/get-online-features", json=asked) as answer:
            found = self._model.probabilities(self._vectors(await answer.json()))
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[NumpyCodec.encode_output(OUTPUT, found)])

    def _vectors(self, answer: dict[str, Any]) -> Any:
        columns = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
        rows = len(next(iter(columns.values()))["values"])
        vectors = np.full((rows, self._width), np.nan, np.float32)
        for feature, position in self._asked.items():
            values = columns[feature.replace(":", "__")]["values"]
            vectors[:, position] = [np.nan if value is None else value for value in values]
        return vectors
