"""The model that is served in every measurement: as large as a real one, learned from numbers that were drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from services.training.onnx_model import INPUT, OUTPUT, export, ort  # type: ignore[attr-defined]

__all__ = ["INPUT", "OUTPUT", "Served", "forest", "run", "session", "vectors"]

_TRAINED_ON, _SEED = 4000, 7
_PARAMETERS = {"objective": "binary", "num_leaves": 31, "num_threads": 1, "deterministic": True, "verbosity": -1}


@dataclass(frozen=True, slots=True)
class Served:
    """A model in a file, the name that calls give it, and how many features it takes."""

    name: str
    onnx: Path
    width: int


def forest(features: int) -> bytes:
    """200 trees of 31 leaves, as training exports them: float32 [N, features] to probabilities, float32 [N]."""
    rows = vectors(_TRAINED_ON, features)
    chance = np.random.default_rng(_SEED)
    labels = rows @ chance.standard_normal(features) + chance.standard_normal(_TRAINED_ON) > 0
    booster = lgb.train(_PARAMETERS, lgb.Dataset(rows, labels), num_boost_round=200)
    return export(booster, features)


def vectors(rows: int, features: int) -> NDArray[np.float32]:
    """Drawn values, float32 [rows, features]; the same ones each time."""
    return np.random.default_rng(_SEED).standard_normal((rows, features), np.float32)


def session(onnx: bytes) -> ort.InferenceSession:
    """One thread, which does not spin."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def run(onnx: bytes, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What onnxruntime says, float32 [N]: what every server must answer."""
    found: NDArray[np.float32] = session(onnx).run([OUTPUT], {INPUT: rows})[0]
    return found
