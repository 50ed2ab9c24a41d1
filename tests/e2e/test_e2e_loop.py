"""The loop itself, small: events, a first model, drift, a retrained model through a canary, and books that balance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
from mlflow import MlflowClient

from deploy.local.ports import address
from deploy.local.processes import Platform
from loadtests.books.topics import read_exposures
from loadtests.demo.platform import platform_client
from loadtests.demo.reckoning import Reckoning, reckon
from loadtests.demo.story import Story, Times
from loadtests.replay import Replay
from services.contracts.inference.v1.predictions_pb2 import PredictionRecord
from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2
from services.problem import load_recipe
from tests.e2e import sources
from tests.e2e.platforms import kafka_of, plan, running_platform
from tests.support import PARCELS, eventually
from tests.support.stock_client_env import ask_with_stock_client, stock_client_python

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True, slots=True)
class Played:
    """The loop after its last event, still running."""

    platform: Platform
    reckoning: Reckoning


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The whole story, played once for all tests of this file."""
    source, said = sources.shifting(), []
    with running_platform(tmp_path_factory.mktemp("loop")) as platform, platform_client(platform.ports) as client:
        # Drift is looked at each half day: predictions must not come later than that behind the events.
        pace = {"ahead": timedelta(hours=1), "room": timedelta(hours=2)}
        with Replay(plan(platform, source, mess_share=0.02, mess_seed=3, **pace)) as replay:
            totals = Story(
                recipe=load_recipe(PARCELS),
                replay=replay,
                platform=client,
                times=Times(source.begins, sources.FIRST_MODEL, source.ends),
                say=said.append,
                tell=lambda _: None,
            ).play()
        late = (sources.END - timedelta(days=2), sources.END)
        yield Played(platform, reckon(platform, client, totals, replay.reached, late))


def test_every_event_and_every_prediction_is_accounted_for(played: Played) -> None:
    accounts = played.reckoning.accounts

    assert [account for account in accounts if not account.balanced] == []
    assert played.reckoning.events.dead_letters.total() > 0
    assert played.reckoning.events.duplicates > 0
    assert played.reckoning.joined.counts.joined > 1000


def test_every_question_was_answered(played: Played) -> None:
    assert played.reckoning.totals.failed.total() == 0
    assert played.reckoning.totals.answered.total() > 1000


def test_drift_asked_for_a_retrain_whose_version_became_champion_through_a_canary(played: Played) -> None:
    chronicle = played.reckoning.chronicle
    asked = {trigger.request_id for trigger in chronicle.triggers}
    registered = {
        run.model_version
        for run in chronicle.runs
        if run.request.request_id in asked and run.state == training_pb2.RUN_STATE_REGISTERED
    }
    canaries = [each for each in chronicle.releases if each.strategy == router_pb2.STRATEGY_CANARY]

    promoted = [each for each in canaries if each.phase == router_pb2.PHASE_SUCCESSFUL]
    assert {each.challenger_version for each in promoted} & registered, chronicle
    weights = {transition.challenger_weight for transition in promoted[0].transitions}
    assert {2500, 10000} <= weights


def test_the_first_version_went_out_blue_green(played: Played) -> None:
    first = played.reckoning.chronicle.releases[0]

    assert first.strategy == router_pb2.STRATEGY_BLUE_GREEN
    assert first.phase == router_pb2.PHASE_SUCCESSFUL


def test_a_stock_client_through_envoy_gets_what_onnxruntime_gives_on_the_recorded_vector(played: Played) -> None:
    stock_client_python()
    inputs = {
        "parcel_id": {"datatype": "BYTES", "data": ["stock-parcel"]},
        "shop": {"datatype": "BYTES", "data": ["shop-1"]},
        "courier": {"datatype": "BYTES", "data": ["courier-1"]},
        "pickup_at": {"datatype": "BYTES", "data": [f"{sources.END:%Y-%m-%dT%H:%M:%SZ}"]},
        "weight_kg": {"datatype": "FP64", "data": [3.5]},
    }
    ports = played.platform.ports

    answer = ask_with_stock_client(
        address(ports.envoy),
        "parcel-delay",
        inputs,
        request_id="stock",
        parameters={"as_of": f"{sources.END:%Y-%m-%dT%H:%M:%SZ}"},
        headers={"x-routing-key": "stock"},
    )

    record = _recorded(played.platform, "stock")
    version = MlflowClient(f"http://{address(ports.mlflow)}").get_model_version("parcel-delay", record.model_version)
    onnx = MlflowClient(f"http://{address(ports.mlflow)}").download_artifacts(version.run_id, "model/model.onnx")
    vector = np.frombuffer(record.vector, "<f4").reshape(1, -1)
    expected = onnxruntime.InferenceSession(onnx).run(["probability"], {"features": vector})[0]
    assert answer["outputs"]["probability"] == expected.tolist()
    assert {tensor["name"] for tensor in answer["model"]["inputs"]} == set(inputs)
    assert _ask_over_rest(address(ports.envoy), inputs) == pytest.approx(expected.tolist(), abs=1e-6)


def _ask_over_rest(envoy: str, inputs: dict[str, dict[str, Any]]) -> list[float]:
    """The same question in the protocol's REST form, through the same split."""
    tensors = [{"name": name, "shape": [1], **tensor} for name, tensor in inputs.items()]
    question = {"inputs": tensors, "parameters": {"as_of": f"{sources.END:%Y-%m-%dT%H:%M:%SZ}"}}
    url = f"http://{envoy}/v2/models/parcel-delay/infer"
    answer = httpx.post(url, json=question, headers={"x-routing-key": "stock"}, trust_env=False, timeout=10)
    assert answer.status_code == 200, answer.text
    [probability] = answer.json()["outputs"]
    return list(probability["data"])


def _recorded(platform: Platform, request_id: str) -> PredictionRecord:
    def found() -> PredictionRecord | None:
        records = read_exposures(kafka_of(platform))
        return next((record for record in records if record.request_id == request_id), None)

    return eventually(found, "the prediction is recorded")
