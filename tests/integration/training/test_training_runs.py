"""Whole runs, from a request on Kafka to a version that inference can load, and what happens when parts fail."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
import pytest

from services.contracts.training.v1 import training_pb2 as pb
from tests.integration.training.conftest import Stage, request, waiting_for
from tests.integration.training.parts import FEATURES, MODEL, T0, SilentMlflow, digest, training_table
from tests.support import eventually

STARTED, REGISTERED, REFUSED, ERROR = (
    pb.RUN_STATE_RUNNING,
    pb.RUN_STATE_REGISTERED,
    pb.RUN_STATE_REFUSED,
    pb.RUN_STATE_ERROR,
)
DOWN = (grpc.StatusCode.UNAVAILABLE, "down for the test")


def test_a_request_on_kafka_becomes_a_version_that_onnxruntime_loads(stage: Stage, tmp_path: Path) -> None:
    stage.start()
    stage.send(request("drift-1", reason="PSI of weight 0.41 > 0.25", requested_by="monitoring"))

    run = stage.ended("drift-1")

    assert run.state == REGISTERED, run.detail
    assert (run.model_version, run.stage) == ("1", "register")
    assert stage.aliases() == {"challenger": "1"}
    [version] = stage.versions()
    content = _artifact(stage, version.run_id, "model.onnx", tmp_path)
    assert hashlib.sha256(content).hexdigest() == run.onnx_sha256 == version.tags["slipway.onnx_sha256"]
    assert version.tags["slipway.dataset_digest"] == digest(training_table(*stage.features.asked[0], 2.0))
    assert (version.tags["slipway.from"], version.tags["slipway.to"]) == (
        "2024-03-01T00:00:00Z",
        "2024-03-11T00:00:00Z",
    )
    session = ort.InferenceSession(content)
    [told] = session.run(["probability"], {"features": np.full((3, len(FEATURES)), np.nan, np.float32)})
    assert (told.shape, told.dtype) == ((3,), np.float32)
    assert ((told > 0) & (told < 1)).all()
    assert json.loads(_artifact(stage, version.run_id, "contract.json", tmp_path)) == {
        "model": MODEL,
        "feature_service": "parcel_delay_v1",
        "entity_id": "parcel_id",
        "join_keys": [{"name": "courier", "datatype": "BYTES"}],
        "request_fields": [{"name": "pickup_at", "datatype": "BYTES"}, {"name": "weight_kg", "datatype": "FP64"}],
        "features": list(FEATURES),
    }
    reference = json.loads(_artifact(stage, version.run_id, "reference.json", tmp_path))
    assert set(reference["features"]) == set(FEATURES)
    assert reference["log_loss"] == pytest.approx(run.metrics["log_loss"])
    logged = stage.mlflow.get_run(version.run_id)
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["auc"] == pytest.approx(run.metrics["auc"])
    assert logged.data.tags["slipway.request_id"] == "drift-1"
    assert logged.data.tags["slipway.requested_by"] == "monitoring"

    started, ended = stage.told(STARTED, REGISTERED)
    assert started.run_id == ended.run_id == run.run_id
    assert (ended.model_version, ended.onnx_sha256) == ("1", run.onnx_sha256)


def test_the_next_run_meets_the_champion_and_a_known_request_is_run_once(stage: Stage) -> None:
    stage.start()
    stage.send(request("first"))
    stage.ended("first")
    stage.mlflow.set_registered_model_alias(MODEL, "champion", "1")

    stage.send(request("first"), request("of another", model="another"), request("second", days=12))
    run = stage.ended("second")

    assert run.state == REGISTERED, run.detail
    assert "against champion version 1" in run.detail
    assert {"auc", "log_loss", "champion_auc", "champion_log_loss", "rows"} <= set(run.metrics)
    assert stage.aliases() == {"champion": "1", "challenger": "2"}
    assert [each.request.request_id for each in stage.runs()] == ["second", "first"]
    with pytest.raises(grpc.RpcError) as known:
        stage.ask(request("first"))
    assert known.value.code() is grpc.StatusCode.ALREADY_EXISTS
    stage.told(STARTED, REGISTERED, STARTED, REGISTERED)


def test_a_model_that_the_gate_refuses_is_logged_and_not_registered(stage: Stage) -> None:
    stage.start()
    stage.features.signal = 0.0

    run_id = stage.ask(request("noise"))

    run = stage.ended("noise")
    assert (run.run_id, run.state, run.stage) == (run_id, REFUSED, "gate")
    assert run.detail.startswith("AUC 0.")
    assert "< 0.5500 on 216 hold-out rows" in run.detail
    assert stage.versions() == []
    [logged] = stage.mlflow_runs()
    assert logged.info.status == "FINISHED"
    assert (logged.data.tags["slipway.outcome"], logged.data.tags["slipway.detail"]) == ("refused", run.detail)
    stage.told(STARTED, REFUSED)


def test_a_range_without_rows_ends_as_an_error_that_says_so(stage: Stage) -> None:
    stage.start()

    stage.ask(request("too short", days=0.5))

    run = stage.ended("too short")
    assert (run.state, run.stage) == (ERROR, "validate")
    assert "only 72 rows with a label from 2024-03-01 00:00 to 2024-03-01 12:00" in run.detail
    [logged] = stage.mlflow_runs()
    assert (logged.info.status, logged.data.tags["slipway.detail"]) == ("FAILED", run.detail)


def test_a_features_service_that_comes_back_in_time_is_waited_for_and_else_given_up(stage: Stage) -> None:
    stage.start(SLIPWAY_PATIENCE_S="8")
    stage.features.refuses = DOWN
    stage.ask(request("waits"))
    eventually(lambda: "waits: features service" in stage.runs()[0].detail, "the run says what it waits for")
    stage.features.refuses = None
    assert stage.ended("waits").state == REGISTERED

    stage.features.refuses = DOWN
    stage.ask(request("in vain"))
    run = stage.ended("in vain")
    assert (run.state, run.stage) == (ERROR, "dataset")
    assert "gave up after 8 s. See that it runs" in run.detail


@pytest.mark.parametrize(
    ("silent_after", "trained"),
    [("runs/create", 1), ("runs/log-batch", 2), ("model-versions/create", 1), ("registered-models/alias", 1)],
)
def test_a_run_killed_after_an_effect_in_mlflow_ends_with_one_version(
    stage: Stage, silent_after: str, trained: int
) -> None:
    """It never heard of the effect. `trained`: how many training sets the two processes asked for."""
    mlflow = SilentMlflow(stage.env["SLIPWAY_MLFLOW"], silent_after)
    killed = stage.start(SLIPWAY_MLFLOW=mlflow.url)
    run_id = stage.ask(request("killed"))
    assert mlflow.took_effect.wait(60)
    killed.kill()
    mlflow.close()

    again = stage.start()
    run = stage.ended("killed")

    assert (run.run_id, run.state) == (run_id, REGISTERED), run.detail
    assert run.detail.startswith("AUC 0.")
    assert run.metrics["auc"] > 0.55
    assert '"attempt": 2' in again.output
    [version] = stage.versions()
    assert (version.version, version.run_id) == (run.model_version, run.mlflow_run_id)
    assert stage.aliases() == {"challenger": run.model_version}
    assert len(stage.features.asked) == trained
    statuses = {logged.info.run_id: logged.info.status for logged in stage.mlflow_runs()}
    assert statuses.pop(run.mlflow_run_id) == "FINISHED"
    assert list(statuses.values()) == ["FAILED"] * silent_after.startswith("runs/"), "what was left behind is marked"
    stage.told(STARTED, REGISTERED)


def test_sigterm_ends_the_process_in_order_and_the_queue_stays(stage: Stage) -> None:
    first = stage.start()
    for name in ("one", "two", "three"):
        stage.ask(request(name, days=60))
    eventually(lambda: stage.run_of("one").stage == "tune", "the first run is in progress")

    assert first.terminate() == 0
    stage.start()

    assert {stage.ended(name).state for name in ("one", "two", "three")} == {REGISTERED}
    assert len(stage.versions()) == 3


def test_without_kafka_a_person_may_still_train_and_the_process_says_what_is_missing(stage: Stage) -> None:
    running = stage.start(ready=False, SLIPWAY_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9")
    eventually(lambda: waiting_for(running.ops_port).keys() == {"training requests", "run records"}, "it serves", 60)

    eventually(lambda: _try_ask(stage, request("no kafka")), "gRPC answers")

    assert stage.ended("no kafka").state == REGISTERED
    assert "Kafka at 127.0.0.1:9 does not answer" in waiting_for(running.ops_port)["run records"]
    running.terminate()
    stage.start()
    stage.told(STARTED, REGISTERED)


def test_requests_without_a_range_or_of_another_model_are_refused_by_name(stage: Stage) -> None:
    stage.start()
    endless = request("x")
    endless.to.seconds = 10**15
    refused = {
        "from, to": (request("x", days=-1), grpc.StatusCode.INVALID_ARGUMENT),
        "from: not set": (pb.RetrainRequest(request_id="x", model=MODEL), grpc.StatusCode.INVALID_ARGUMENT),
        "to: Timestamp is not valid": (endless, grpc.StatusCode.INVALID_ARGUMENT),
        "model": (request("x", model="another"), grpc.StatusCode.NOT_FOUND),
    }
    for words, (asked, code) in refused.items():
        with pytest.raises(grpc.RpcError) as error:
            stage.ask(asked)
        assert error.value.code() is code
        assert words in error.value.details()
    with pytest.raises(grpc.RpcError) as unknown:
        stage.training.GetRun(pb.GetRunRequest(run_id="none"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert stage.runs() == []
    assert stage.ask(request("", begin=T0)), "a person may leave the id to us"


def _artifact(stage: Stage, mlflow_run_id: str, name: str, folder: Path) -> bytes:
    return Path(stage.mlflow.download_artifacts(mlflow_run_id, f"model/{name}", str(folder))).read_bytes()


def _try_ask(stage: Stage, asked: pb.RetrainRequest) -> str:
    try:
        return stage.ask(asked)
    except grpc.RpcError as error:
        raise AssertionError(f"no answer yet: {error}") from error
