"""LightGBM as ONNX: `features` float32 [N, F] in, `probability` float32 [N] out, with the native model's answers."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

# Read when the library is loaded: without it onnxruntime starts an uploading thread.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

ort.disable_telemetry_events()

INPUT, OUTPUT = "features", "probability"
MAX_DIFFERENCE = 1e-5
_OPSET, _ML_OPSET, _IR_VERSION = 15, 1, 8
_BLANKED_ROWS, _BLANKED_SHARE, _SEED = 2000, 0.2, 0
_THRESHOLDS = re.compile(r"^threshold=(.*)$", re.MULTILINE)
_TREE_SIZES = re.compile(r"^tree_sizes=.*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parity:
    """Native model against ONNX on `rows` rows. `flips`: on different sides of 0.5, and not for a tie."""

    rows: int
    max_difference: float
    flips: int

    @property
    def holds(self) -> bool:
        """NaN does not hold."""
        return self.max_difference <= MAX_DIFFERENCE and self.flips == 0


def export(booster: lgb.Booster, features: int) -> bytes:
    """The serialised model. The same trees give the same bytes."""
    converted = convert_lightgbm(
        _with_float32_thresholds(booster),
        name="model",
        initial_types=[(INPUT, FloatTensorType([None, features]))],
        zipmap=False,
        target_opset=_OPSET,
    )
    trees = next(node for node in converted.graph.node if node.op_type == "TreeEnsembleClassifier")
    second = numpy_helper.from_array(np.array(1, np.int64), "second_class")
    graph = helper.make_graph(
        # The converter's other nodes only rename and cast the class, which nobody asks for.
        [trees, helper.make_node("Gather", [trees.output[1], second.name], [OUTPUT], axis=1)],
        "model",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N"])],
        [second],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="slipway")
    model.ir_version = _IR_VERSION
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def sha256(content: bytes) -> str:
    """The digest in lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def run(content: bytes, vectors: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
    """float32 [N] of float32 [N, F]. Raises what onnxruntime raises if the model does not load or run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run([OUTPUT], {INPUT: vectors})[0]
    return found


def compare(booster: lgb.Booster, content: bytes, vectors: NDArray[np.float32], threads: int = 1) -> Parity:
    """Both on the rows, and on some of them with values blanked: in production any feature may be missing."""
    chance = np.random.default_rng(_SEED)
    blanked = vectors[:_BLANKED_ROWS].copy()
    blanked[chance.random(blanked.shape) < _BLANKED_SHARE] = np.nan
    rows = np.concatenate([vectors, blanked])
    return parity(np.asarray(booster.predict(rows)), run(content, rows, threads))


def parity(native: NDArray[np.float64], onnx: NDArray[np.float32]) -> Parity:
    """Of two columns of probabilities [N]."""
    differences = np.abs(native - onnx)
    other_side = (native >= 0.5) != (onnx >= 0.5)
    tie = np.abs(native - 0.5) <= MAX_DIFFERENCE
    return Parity(len(native), float(differences.max(initial=0.0)), int(np.count_nonzero(other_side & ~tie)))


def _with_float32_thresholds(booster: lgb.Booster) -> lgb.Booster:
    """The same answers to float32 values: each threshold rounded down to a float32.

    ONNX keeps thresholds as float32. Rounded to the nearest, one may land on the value above, which then goes the other
    way; for float32 x, x <= t is x <= (the largest float32 not above t).
    """

    def rounded(line: re.Match[str]) -> str:
        return "threshold=" + " ".join(f"{_floor_float32(float(text)):.17g}" for text in line[1].split())

    text = _THRESHOLDS.sub(rounded, booster.model_to_string())
    # The sizes of the trees' texts, which have changed; without them LightGBM reads the text from top to bottom.
    return lgb.Booster(model_str=_TREE_SIZES.sub("", text))


def _floor_float32(value: float) -> float:
    nearest = np.float32(value)
    return float(nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf)))
