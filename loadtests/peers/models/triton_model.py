"""Triton's Python backend: one ONNX run for all requests that its batcher brings."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # type: ignore[import-not-found]
from onnx_model import OUTPUT, OnnxModel  # type: ignore[import-not-found]


class TritonPythonModel:
    """By the name and the methods that Triton looks for."""

    def initialize(self, args: Any) -> None:  # noqa: ARG002
        self._model = OnnxModel()

    def execute(self, requests: list[Any]) -> list[Any]:
        vectors = [triton.get_input_tensor_by_name(request, "features").as_numpy() for request in requests]
        found = self._model.probabilities(np.concatenate(vectors))
        ends = np.cumsum([len(rows) for rows in vectors])[:-1]
        return [
            triton.InferenceResponse([triton.Tensor(OUTPUT, rows.reshape(-1, 1))]) for rows in np.split(found, ends)
        ]
