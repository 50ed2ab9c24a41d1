"""The process from Kafka to its answers: nothing lost, nothing twice, one request for one drift."""

from __future__ import annotations

import json
import re
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from mlflow import MlflowClient

from services.contracts.monitoring.v1 import monitoring_pb2
from tests.integration.monitoring.conftest import FEATURES, MODEL, Monitoring, Starter, Upstream
from tests.support import eventually

PREDICTIONS = 2000


def expected_counts() -> dict[str, int]:
    """By the rule of `send`: of ten, one has no outcome, one is lost, eight have a label."""
    tenth = PREDICTIONS // 10
    return {"recorded": PREDICTIONS, "joined": 8 * tenth, "void": tenth, "pending": 0, "expired": tenth}


def send(upstream: Upstream, numbers: range) -> None:
    for number in numbers:
        upstream.predict(number, score=0.8 if number % 2 else 0.3, release="r1")
        if number % 10 == 9:
            upstream.tell(number, None)
        elif number % 10 != 8:
            upstream.tell(number, number % 2)
    upstream.flush()


def standing(monitoring: Monitoring) -> dict[str, int]:
    counts = monitoring.counts()
    return {name: getattr(counts, name) for name in ("recorded", "joined", "void", "pending", "expired")}


def test_a_crash_in_the_middle_loses_nothing_and_counts_nothing_twice(monitoring: Starter, upstream: Upstream) -> None:
    with monitoring() as first:
        send(upstream, range(PREDICTIONS // 2))
        eventually(lambda: first.counts().recorded > 0, "the first predictions are recorded")
        first.running.kill()

    send(upstream, range(PREDICTIONS // 2, PREDICTIONS))
    upstream.predict(0)
    upstream.tell(1, 1)
    upstream.garbage()
    upstream.watermark(13)
    upstream.flush()

    with monitoring() as second:
        eventually(lambda: standing(second) == expected_counts(), "every prediction has its place")
        counts = second.counts()
        assert (counts.duplicate_predictions, counts.duplicate_labels) == (1, 1)

        quality = second.stub.GetQuality(monitoring_pb2.GetQualityRequest(model=MODEL, release_id="r1"), timeout=10)
        [window] = quality.windows
        # Number 8 of each ten has no outcome and 9 none that counts: of eight labels every second one is 1.
        assert (window.predictions, window.labels) == (PREDICTIONS, 8 * PREDICTIONS // 10)
        assert (window.auc, window.positive_rate) == (1.0, 0.5)
        assert window.log_loss == pytest.approx(-(np.log(0.8) + np.log(0.7)) / 2)
        assert second.running.terminate() == 0

    with monitoring() as third:
        assert standing(third) == expected_counts()


def test_bad_questions_are_refused_by_name(monitoring: Starter, upstream: Upstream) -> None:
    with monitoring() as running:
        with pytest.raises(grpc.RpcError) as other_model:
            running.stub.GetQuality(monitoring_pb2.GetQualityRequest(model="another"), timeout=10)
        with pytest.raises(grpc.RpcError) as no_champion:
            running.stub.GetDrift(monitoring_pb2.GetDriftRequest(), timeout=10)
        page = httpx.get(running.http)

    assert other_model.value.code() is grpc.StatusCode.NOT_FOUND
    assert no_champion.value.code() is grpc.StatusCode.NOT_FOUND
    assert page.status_code == 200
    assert "Slipway" in page.text
    # Whatever the page loads comes from where it came itself; "//" without a scheme would be another host too.
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)|import\s+["']([^"']+)|url\(["']?([^"')]+)""", page.text)
    addresses = ["".join(parts) for parts in loaded]
    assert addresses
    assert [address for address in addresses if re.match(r"([a-z]+:)?//", address)] == []


def register_champion(url: str) -> None:
    client = MlflowClient(url)
    run = client.create_run(client.create_experiment("monitoring-drift"))
    steady = {"edges": [0.0], "counts": [500, 500], "missing": 0}
    reference = {"features": dict.fromkeys(FEATURES, steady), "rows": 1000, "log_loss": 0.69}
    client.log_text(run.info.run_id, json.dumps({"features": FEATURES}), "model/contract.json")
    client.log_text(run.info.run_id, json.dumps(reference), "model/reference.json")
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias(MODEL, "champion", "1")


def send_drifted(upstream: Upstream, first_hour: int, hours: int) -> None:
    """Thirty predictions an hour with `load` always high, `rain` as in training; the watermark follows."""
    for hour in range(first_hour, first_hour + hours):
        for number in range(30 * hour, 30 * hour + 30):
            upstream.predict(number, hours=hour, vector=[1.0, 1.0 if number % 2 else -1.0])
    upstream.watermark(first_hour + hours)
    upstream.flush()


def test_a_drift_asks_for_one_retrain_within_the_cool_down(
    monitoring: Starter, upstream: Upstream, requests: Any, mlflow_server: str
) -> None:
    register_champion(mlflow_server)
    upstream.watermark(0)
    upstream.flush()
    with monitoring(mlflow_server) as running:
        eventually(lambda: running.counts().HasField("watermark"), "the first watermark is read")
        drift = eventually(lambda: _drift(running), "the champion's reference is here")
        assert (drift.reference_version, len(drift.features)) == ("1", 0)

        send_drifted(upstream, 0, 24)
        [trigger] = eventually(running.triggers, "the drift is noticed")
        [request] = eventually(requests, "the request is on Kafka")
        assert trigger.kind == "drift"
        assert "PSI of load" in trigger.reason
        assert "1 of 2 features" in trigger.reason
        assert (request.request_id, request.model, request.reason) == (trigger.request_id, MODEL, trigger.reason)
        # Ten days of history up to the last whole day.
        assert request.to.seconds - getattr(request, "from").seconds == 10 * 86_400
        running.running.kill()

    with monitoring(mlflow_server) as again:
        send_drifted(upstream, 24, 24)
        eventually(lambda: again.counts().recorded == 48 * 30, "the next day is recorded")
        load, rain = eventually(lambda: list(_drift(again).features), "drift over the last window")
        assert load.drifted
        assert not rain.drifted
        assert len(again.triggers()) == 1
        # Killed before it noted that Kafka had it, it may have sent the same request again.
        assert {each.request_id for each in requests()} == {trigger.request_id}


def _drift(running: Monitoring) -> monitoring_pb2.GetDriftResponse | None:
    try:
        return running.stub.GetDrift(monitoring_pb2.GetDriftRequest(), timeout=10)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise
