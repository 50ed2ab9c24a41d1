"""The model as every peer has it: onnxruntime with one thread, which does not spin."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

ort.disable_telemetry_events()

OUTPUT = "probability"


class OnnxModel:
    """Of the file that the environment names; it is loaded in the process that asks first."""

    def __init__(self) -> None:
        self._session: ort.InferenceSession | None = None

    def __getstate__(self) -> dict[str, None]:
        """Peers send models to their workers; a session stays where it is."""
        return {"_session": None}

    def probabilities(self, vectors: Any) -> Any:
        """float32 [N] of [N, F]."""
        if self._session is None:
            options = ort.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 4
            path = os.environ["PEER_ONNX"]
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return self._session.run([OUTPUT], {"features": np.asarray(vectors, np.float32)})[0]
