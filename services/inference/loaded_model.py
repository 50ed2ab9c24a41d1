"""A model in memory: ONNX from checked bytes, run once before it may serve."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Conflict, Invalid
from services.inference.contract import ModelContract
from services.inference.model_cache import Artifacts, sha256

# Read when the library is loaded: without it onnxruntime starts an uploading thread.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

ort.disable_telemetry_events()

INPUT, OUTPUT = "features", "probability"
_WARM_UP_ROWS = (1, 3)
# A folder that cannot exist: a model that refers to files outside its own bytes does not load.
_NO_EXTERNAL_DATA = "/dev/null/no-external-data"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A version that passed its checks. Immutable; calls in progress keep theirs alive while another takes over."""

    name: str
    version: str
    onnx_sha256: str
    contract: ModelContract
    session: ort.InferenceSession

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [N] of float32 [N, F]. Raises Conflict if one of them is not a number in [0, 1]."""
        found: NDArray[np.float32] = self.session.run([OUTPUT], {INPUT: vectors})[0]
        if not ((found >= 0) & (found <= 1)).all():
            at = int(np.argmin((found >= 0) & (found <= 1)))
            what = f"gives {found[at]} for row {at}, expected a probability in [0, 1]"
            raise Conflict(f"version {self.version} of {self.name!r} {what}")
        return found


def load(artifacts: Artifacts, onnx: bytes) -> LoadedModel:
    """Checks the bytes and makes a session of them. CPU-bound; raises Invalid, naming the check that failed."""
    version = artifacts.version
    digest = sha256(onnx)
    if digest != version.onnx_sha256:
        raise Invalid(f"model.onnx has digest {digest}, the version's tag says {version.onnx_sha256 or 'nothing'}")
    try:
        session = _session(onnx)
    except Exception as error:  # the library raises its own classes, without a common base
        raise Invalid(f"model.onnx does not load: {error}") from error
    _check_signature(session, len(artifacts.contract.features))
    model = LoadedModel(version.model, version.version, digest, artifacts.contract, session)
    _warm_up(model)
    return model


def _session(onnx: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Rows are few and small: other threads cost more than they bring.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_EXTERNAL_DATA)
    return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _check_signature(session: ort.InferenceSession, features: int) -> None:
    """Names and types, and the width if it is fixed; the warm-up run shows the rest."""
    inputs = [(tensor.name, tensor.type, tensor.shape) for tensor in session.get_inputs()]
    if [taken[:2] for taken in inputs] != [(INPUT, "tensor(float)")] or inputs[0][2][1:] not in ([features], [None]):
        raise Invalid(f"model.onnx takes {inputs}, expected one input {INPUT!r} float32 [N, {features}]")
    outputs = {tensor.name: tensor.type for tensor in session.get_outputs()}
    if outputs.get(OUTPUT) != "tensor(float)":
        raise Invalid(f"model.onnx gives {outputs}, expected an output {OUTPUT!r} float32 [N]")


def _warm_up(model: LoadedModel) -> None:
    for rows in _WARM_UP_ROWS:
        vectors = np.zeros((rows, len(model.contract.features)), np.float32)
        try:
            found = model.probabilities(vectors)
        except Exception as error:
            raise Invalid(f"model.onnx fails its warm-up run on {rows} rows of zeros: {error}") from error
        if found.shape != (rows,):
            raise Invalid(f"model.onnx gives shape {list(found.shape)} for {rows} rows, expected [{rows}]")
