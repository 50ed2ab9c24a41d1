"""BentoML: one asynchronous API, one worker."""

from __future__ import annotations

from typing import Any

import bentoml  # type: ignore[import-not-found]
from onnx_model import OUTPUT, OnnxModel  # type: ignore[import-not-found]


@bentoml.service(workers=1)
class Served:
    """`{"features": [[…]]}` to `{"probability": […]}`."""

    def __init__(self) -> None:
        self._model = OnnxModel()

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(self, features: list[list[float]]) -> dict[str, Any]:
        return {OUTPUT: self._model.probabilities(features).tolist()}
