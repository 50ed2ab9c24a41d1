"""Saves the model in MLflow's ONNX flavour, for `mlflow models serve`: `save_for_mlflow.py FOLDER`."""

from __future__ import annotations

import os
import sys

import mlflow
import onnx

if __name__ == "__main__":
    options = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
    mlflow.onnx.save_model(onnx.load(os.environ["PEER_ONNX"]), sys.argv[1], onnx_session_options=options)
