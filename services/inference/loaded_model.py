"""A model in memory: ONNX from checked bytes, run once before it may serve."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Conflict
from services.inference.artifacts import Artifacts, ModelVersion, sha256
from services.inference.contract import ModelContract
from services.inference.inspection import inspect
from services.inference.refusal import Check, Refused

# Read when the library is loaded: without it onnxruntime starts an uploading thread.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

ort.disable_telemetry_events()

INPUT, OUTPUT = "features", "probability"
_WARM_UP_VALUES = (0.0, np.nan, 1.0, -1.0, 1e6)
_SAME_ANSWER = 1e-5
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
        at = ((found >= 0) & (found <= 1)).tobytes().find(0)
        if at >= 0:
            what = f"gives {found[at]} for row {at}, expected a probability in [0, 1]"
            raise Conflict(f"version {self.version} of {self.name!r} {what}")
        return found


def load(artifacts: Artifacts, onnx: bytes) -> LoadedModel:
    """Checks the bytes and makes a session of them. CPU-bound; raises Refused, naming the check that failed."""
    version = artifacts.version
    check_digest(version, onnx)
    inspect(onnx)
    try:
        session = _session(onnx)
    except MemoryError:
        raise
    except Exception as error:  # the library raises its own classes, without a common base
        raise Refused(Check.TRIAL, f"model.onnx does not load: {error}") from error
    _check_signature(session, len(artifacts.contract.features))
    model = LoadedModel(version.model, version.version, version.onnx_sha256, artifacts.contract, session)
    _warm_up(model)
    return model


def check_digest(version: ModelVersion, onnx: bytes) -> None:
    """Raises Refused unless the bytes are those that the version's tag names."""
    digest = sha256(onnx)
    if digest != version.onnx_sha256:
        told = version.onnx_sha256 or "nothing"
        raise Refused(Check.DIGEST, f"model.onnx has digest {digest}, the version's tag says {told}")


def _session(onnx: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Rows are few and small: other threads cost more than they bring.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_EXTERNAL_DATA)
    return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _check_signature(session: ort.InferenceSession, features: int) -> None:
    """Names, types, and the width if it is fixed; the warm-up run shows the rest."""
    inputs = [(tensor.name, tensor.type, tensor.shape) for tensor in session.get_inputs()]
    if [taken[:2] for taken in inputs] != [(INPUT, "tensor(float)")] or not _is_width(inputs[0][2][1:], features):
        raise Refused(
            Check.SIGNATURE, f"model.onnx takes {inputs}, expected one input {INPUT!r} float32 [N, {features}]"
        )
    outputs = {tensor.name: tensor.type for tensor in session.get_outputs()}
    if outputs.get(OUTPUT) != "tensor(float)":
        raise Refused(Check.SIGNATURE, f"model.onnx gives {outputs}, expected an output {OUTPUT!r} float32 [N]")


def _is_width(inner: list[int | str | None], features: int) -> bool:
    return len(inner) == 1 and (inner[0] == features or not isinstance(inner[0], int))


def _warm_up(model: LoadedModel) -> None:
    """Rows of zeros, of gaps, of ordinary and of wild values: alone, and all together with the same answers.

    Calls that arrive together share one run, so a row's answer must not depend on its neighbours.
    """
    rows = np.tile(np.array(_WARM_UP_VALUES, np.float32)[:, np.newaxis], len(model.contract.features))
    alone = np.concatenate([_answers(model, row[np.newaxis]) for row in rows])
    together = _answers(model, rows)
    if np.abs(alone - together).max() > _SAME_ANSWER:
        at = int(np.abs(alone - together).argmax())
        what = f"gives {alone[at]} for a row alone and {together[at]} among others"
        raise Refused(Check.WARM_UP, f"model.onnx {what}, expected rows that do not depend on each other")


def _answers(model: LoadedModel, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    what = f"{len(rows)} rows" if len(rows) > 1 else f"a row of {rows[0, 0]}"
    try:
        found = model.probabilities(rows)
    except MemoryError:
        raise
    except Exception as error:
        raise Refused(Check.WARM_UP, f"model.onnx fails its warm-up run on {what}: {error}") from error
    if found.shape != (len(rows),):
        shape = list(found.shape)
        raise Refused(Check.WARM_UP, f"model.onnx gives shape {shape} for {what}, expected [{len(rows)}]")
    return found
