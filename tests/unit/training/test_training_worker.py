"""Whole runs on fakes: how they end, what they wait for, and that a crash at any moment makes no second version."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.chassis.errors import Conflict, Unavailable
from services.contracts.training.v1 import training_pb2 as pb
from services.inference.artifacts import Artifacts, ModelVersion
from services.inference.contract import parse_contract
from services.inference.loaded_model import load
from services.problem import Gate
from services.training.boosting import grow
from services.training.mlflow_tracker import DETAIL, Champion
from services.training.onnx_model import export, sha256
from services.training.pipeline import Pipeline
from services.training.quality import assess
from services.training.runs import Run, RunState
from services.training.store import RunStore
from services.training.translate import to_record
from services.training.worker import Worker
from tests.unit.training.fakes import FEATURES, REQUEST, T0, FakeFeatures, FakeTracker, Killed, dataset, recipe, write


@dataclass
class House:
    """A store with a worker over fakes. `work` ends when the queue is empty or the worker dies."""

    store: RunStore
    features: FakeFeatures
    tracker: FakeTracker
    recipe: Any = field(default_factory=recipe)
    patience_s: float = 60
    stopping: threading.Event = field(default_factory=threading.Event)

    def work(self) -> Run:
        pipeline: Any = Pipeline(
            recipe=self.recipe,
            features=self.features,  # type: ignore[arg-type]
            tracker=self.tracker,  # type: ignore[arg-type]
            min_rows=200,
            threads=1,
        )
        worker = Worker(
            store=self.store,
            pipeline=pipeline,
            stopping=self.stopping,
            now=lambda: T0,
            patience_s=self.patience_s,
            attempts=3,
        )
        while (run := self.store.next()) is not None and not self.stopping.is_set():
            worker._carry_out(run)
        return self.store.all()[0]

    def told(self) -> list[int]:
        return [pb.RunRecord.FromString(record).run.state for _, _, record in self.store.unsent()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    numbers = count()
    store = RunStore(tmp_path / "state", to_record, lambda: f"run-{next(numbers)}")
    store.queue(REQUEST)
    yield House(store, FakeFeatures(write(dataset(), tmp_path / "set.parquet")), FakeTracker())
    store.close()


def test_a_good_model_is_registered_with_all_that_others_read(house: House) -> None:
    run = house.work()

    assert run.state is RunState.REGISTERED, run.detail
    assert (run.model_version, house.tracker.challenger) == ("1", "1")
    kept = house.tracker.artifacts[run.mlflow_run_id]
    assert run.onnx_sha256 == sha256(kept.onnx)
    assert kept.contract["features"] == list(FEATURES)
    assert kept.reference["rows"] == 180, "valid and hold-out"
    assert run.metrics["rows"] == 90
    assert run.metrics["parity_flips"] == 0
    assert {"auc", "log_loss", "brier", "calibration_error", "positive_rate"} <= set(run.metrics)
    assert house.tracker.tags[run.mlflow_run_id]["slipway.dataset_digest"] == "d1"
    assert house.tracker.statuses == {run.mlflow_run_id: "FINISHED"}
    assert ["learning_rate" in trial for trial in house.tracker.trials] == [False, True], "the plain one first"
    assert house.told() == [pb.RUN_STATE_RUNNING, pb.RUN_STATE_REGISTERED]


def test_inference_loads_what_was_kept_and_gives_the_native_models_answers(house: House) -> None:
    run = house.work()
    kept = house.tracker.artifacts[run.mlflow_run_id]
    version = ModelVersion(model="m", version="1", run_id=run.mlflow_run_id, onnx_sha256=run.onnx_sha256)
    contract = parse_contract(json.dumps(kept.contract).encode(), "m")

    loaded = load(Artifacts(version=version, contract=contract), kept.onnx)

    holdout = dataset().part(slice(510, 600))
    found = assess(holdout.labels, loaded.probabilities(holdout.values))
    assert found.log_loss == pytest.approx(run.metrics["log_loss"], abs=1e-6)


def test_the_gates_no_is_a_refusal_and_registers_nothing(house: House) -> None:
    house.recipe = recipe(gate=Gate(min_auc=0.999, max_log_loss_increase=0))

    run = house.work()

    assert (run.state, run.stage) == (RunState.REFUSED, "gate")
    assert "< 0.9990 on 90 hold-out rows" in run.detail
    assert house.tracker.versions == [] and house.tracker.challenger == ""
    assert house.tracker.statuses == {run.mlflow_run_id: "FINISHED"}
    assert house.told() == [pb.RUN_STATE_RUNNING, pb.RUN_STATE_REFUSED]


def _champion(features: tuple[str, ...] = FEATURES, holdout_from: str = "") -> Champion:
    """Trained on nothing but noise."""
    noise = replace(dataset(signal=0.0, seed=5), features=features)
    booster = grow(recipe().parameters, 10, noise, 1, lambda: None)
    return Champion("7", export(booster, len(features)), features, holdout_from)


def test_the_champion_is_scored_on_the_same_rows(house: House) -> None:
    house.tracker.champion_version = _champion()

    run = house.work()

    assert run.state is RunState.REGISTERED, run.detail
    assert run.metrics["champion_auc"] < run.metrics["auc"]
    assert run.metrics["champion_log_loss"] > run.metrics["log_loss"]
    assert "against champion version 7" in run.detail


def test_a_champion_that_saw_some_of_the_rows_is_told_of(house: House) -> None:
    house.tracker.champion_version = _champion(holdout_from="2024-03-01T00:09:00Z")

    assert "of these rows 30 are earlier than the champion's own hold-out" in house.work().detail


def test_a_champion_on_other_features_is_not_comparable(house: House) -> None:
    house.tracker.champion_version = _champion(("a", "b", "gone"))

    run = house.work()

    assert run.state is RunState.REGISTERED
    assert "champion version 7 is not comparable: the training set has no gone" in run.detail
    assert "champion_log_loss" not in run.metrics


def test_a_champion_that_cannot_be_scored_is_an_error_and_no_pass(house: House) -> None:
    house.tracker.champion_version = Champion("7", b"no model", FEATURES, "")

    run = house.work()

    assert (run.state, run.stage) == (RunState.ERROR, "evaluate")
    assert "champion version 7 could not be scored" in run.detail
    assert house.tracker.statuses == {run.mlflow_run_id: "FAILED"}


def test_features_without_values_are_a_warning(house: House, tmp_path: Path) -> None:
    rows = dataset()
    rows.values[:, 2] = np.nan
    house.features.told = write(rows, tmp_path / "empty.parquet")

    run = house.work()

    assert run.state is RunState.REGISTERED
    assert run.detail.endswith("; warning: no value in any row of c")
    assert run.metrics["features_without_values"] == 1


def test_data_that_cannot_be_used_is_an_error(house: House, tmp_path: Path) -> None:
    house.features.told = write(dataset(50), tmp_path / "few.parquet")

    run = house.work()

    assert (run.state, run.stage) == (RunState.ERROR, "validate")
    assert "only 50 rows" in run.detail
    assert house.tracker.statuses == {run.mlflow_run_id: "FAILED"}
    assert house.told() == [pb.RUN_STATE_RUNNING, pb.RUN_STATE_ERROR]


def test_a_part_that_comes_back_is_waited_for(house: House) -> None:
    house.features.down = 2
    house.tracker.fails_at, house.tracker.failure = 1, Unavailable

    run = house.work()

    assert run.state is RunState.REGISTERED
    assert "waits" not in run.detail


def test_the_patience_ends_with_words(house: House) -> None:
    house.features.down, house.patience_s = 1000, 0.3

    run = house.work()

    assert (run.state, run.stage) == (RunState.ERROR, "dataset")
    assert "gave up after 0.3 s. See that it runs, then start a new run" in run.detail


def test_what_mlflow_refuses_is_an_error(house: House) -> None:
    house.tracker.fails_at, house.tracker.failure = 3, Conflict

    run = house.work()

    assert run.state is RunState.ERROR
    assert run.detail == "MLflow answered too late"


@pytest.mark.parametrize("failure", [Unavailable, Conflict])
def test_once_the_alias_is_set_no_word_of_mlflow_makes_the_run_an_error(house: House, failure: type[Exception]) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise failure("MLflow says no")

    house.tracker.end, house.patience_s = fails, 0.3  # type: ignore[method-assign]

    run = house.work()

    assert (run.state, run.model_version, house.tracker.challenger) == (RunState.REGISTERED, "1", "1"), run.detail
    assert house.told() == [pb.RUN_STATE_RUNNING, pb.RUN_STATE_REGISTERED]


def test_an_error_of_ours_ends_the_run_and_not_the_worker(house: House) -> None:
    house.tracker.fails_at, house.tracker.failure = 4, ZeroDivisionError
    house.store.queue(replace(REQUEST, request_id="request-2"))

    last = house.work()

    first = house.store.all()[1]
    assert first.state is RunState.ERROR
    assert "internal error: ZeroDivisionError" in first.detail
    assert last.state is RunState.REGISTERED


def test_a_crash_after_any_effect_in_mlflow_makes_no_second_version(tmp_path: Path) -> None:
    told = write(dataset(), tmp_path / "set.parquet")
    crashed, at = True, 0
    while crashed:
        store = RunStore(tmp_path / f"state-{at}", to_record, lambda: "run-0")
        house = House(store, FakeFeatures(told), FakeTracker(fails_at=at))
        store.queue(REQUEST)
        try:
            house.work()
            crashed = False
        except Killed:
            at += 1

        run = house.work()

        assert run.state is RunState.REGISTERED, run.detail
        assert [owner for owner, _ in house.tracker.versions] == ["run-0"], f"after call {at}"
        assert house.tracker.challenger == run.model_version == "1"
        assert house.tracker.statuses.pop(run.mlflow_run_id) == "FINISHED"
        assert set(house.tracker.statuses.values()) <= {"FAILED"}
        assert "AUC" in run.detail and run.metrics["auc"] > 0.6
        assert house.told() == [pb.RUN_STATE_RUNNING, pb.RUN_STATE_REGISTERED]
        store.close()
    assert at > 10, "it was killed after each of its calls"


def test_a_run_that_kills_the_process_each_time_is_given_up(house: House) -> None:
    house.features.schema = _dies  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(Killed):
            house.work()

    run = house.work()

    assert run.state is RunState.ERROR
    assert "the process ended 3 times in stage dataset" in run.detail
    assert set(house.tracker.statuses.values()) == {"FAILED"}
    assert house.tracker.tags[run.mlflow_run_id][DETAIL] == run.detail
    assert house.told() == [pb.RUN_STATE_RUNNING, pb.RUN_STATE_ERROR]


def test_a_run_that_was_registered_before_its_last_crash_is_no_error(house: House) -> None:
    ends, house.tracker.end = house.tracker.end, _dies  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(Killed):
            house.work()
    assert house.tracker.challenger == "1"
    house.tracker.end = ends  # type: ignore[method-assign]
    house.tracker.fails_at, house.tracker.failure = house.tracker.calls, Unavailable

    run = house.work()

    assert (run.state, run.model_version) == (RunState.REGISTERED, "1"), run.detail
    assert run.onnx_sha256 == sha256(house.tracker.artifacts[run.mlflow_run_id].onnx)
    assert house.tracker.statuses == {run.mlflow_run_id: "FINISHED"}
    assert house.told() == [pb.RUN_STATE_RUNNING, pb.RUN_STATE_REGISTERED]


def test_a_stop_while_mlflow_is_asked_leaves_the_giving_up_to_the_next_process(house: House) -> None:
    house.features.schema = _dies  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(Killed):
            house.work()

    def stopped(run_id: str) -> Any:
        house.stopping.set()
        raise Unavailable("MLflow does not answer")

    house.tracker.version_of = stopped  # type: ignore[method-assign]
    run = house.work()
    assert (run.state, run.attempts) == (RunState.RUNNING, 3)

    house.stopping.clear()
    del house.tracker.version_of  # type: ignore[attr-defined]
    run = house.work()
    assert run.state is RunState.ERROR
    assert "the process ended 3 times in stage dataset" in run.detail


def _dies(*_: Any, **__: Any) -> Any:
    raise Killed


def test_a_stop_in_order_leaves_the_run_to_the_next_process_and_does_not_count(house: House) -> None:
    house.tracker.log_trial = lambda *_, **__: house.stopping.set()  # type: ignore[method-assign]

    run = house.work()
    assert (run.state, run.stage, run.attempts) == (RunState.RUNNING, "tune", 0)

    house.stopping.clear()
    del house.tracker.log_trial  # type: ignore[attr-defined]
    house.store.save(replace(run, metrics={"champion_auc": 0.9}))
    run = house.work()
    assert run.state is RunState.REGISTERED
    assert "champion_auc" not in run.metrics, "everything is measured anew"
    assert sorted(house.tracker.statuses.values()) == ["FAILED", "FINISHED"]
