"""LitServe: one worker, its default queue. It reads the annotations as objects, so none are put off here."""

import os
from typing import Any

import litserve  # type: ignore[import-not-found]
from onnx_model import OUTPUT, OnnxModel  # type: ignore[import-not-found]


class Api(litserve.LitAPI):  # type: ignore[misc]
    """`{"features": [[…]]}` to `{"probability": […]}`."""

    def setup(self, device: Any) -> None:  # noqa: ARG002
        self._model = OnnxModel()

    def decode_request(self, request: dict[str, Any]) -> Any:
        return request["features"]

    def predict(self, features: Any) -> Any:
        return self._model.probabilities(features)

    def encode_response(self, found: Any) -> dict[str, Any]:
        return {OUTPUT: found.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1",
        port=int(os.environ["PEER_HTTP_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
