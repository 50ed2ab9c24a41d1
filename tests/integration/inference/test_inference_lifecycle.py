"""Swaps, restarts and the end of a process: nothing answered is lost, nothing unchecked serves."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping

import grpc

from services.chassis.settings import KafkaSettings
from tests.integration.inference.conftest import RunInference
from tests.integration.inference.platform import (
    Inference,
    Versions,
    entity_request,
    probabilities,
    recorded,
    run_onnx,
)
from tests.support import eventually
from tests.support.tiny_models import logistic_onnx


class Callers:
    """Threads that call without pause; what they got is kept."""

    def __init__(self, inference: Inference, count: int = 4) -> None:
        self.answered: dict[str, str] = {}
        """Version by prediction id."""
        self.failures: list[grpc.RpcError] = []
        self._inference = inference
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(name,), daemon=True) for name in range(count)]
        for thread in self._threads:
            thread.start()

    def _call(self, name: int) -> None:
        number = 0
        while not self._enough.is_set():
            number += 1
            try:
                response = self._inference.infer(entity_request("courier-1", id=f"{name}.{number}"))
            except grpc.RpcError as error:
                self.failures.append(error)
                return
            self.answered[response.id] = response.model_version

    def stop(self) -> None:
        self._enough.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)

    def wait_answers(self, version: str, count: int) -> None:
        eventually(lambda: Counter(self.answered.values())[version] >= count, f"{count} answers of version {version}")


def test_versions_swap_under_load_without_a_failed_call_and_a_bad_one_never_serves(
    inference: RunInference, versions: Versions, with_all: Mapping[str, str], kafka: KafkaSettings
) -> None:
    onnx = {}
    first = versions.register(onnx1 := logistic_onnx(bias=1.0))
    onnx[first] = onnx1
    with inference(with_all) as running:
        callers = Callers(running)
        callers.wait_answers(first, 50)
        second = versions.register(onnx2 := logistic_onnx(bias=2.0))
        onnx[second] = onnx2
        callers.wait_answers(second, 50)
        bad = versions.register(logistic_onnx(bias=3.0), digest="0" * 64)
        eventually(lambda: f"version {bad} was refused" in running.detail(), "the refusal is told")
        answers = Counter(callers.answered.values())[second]
        callers.wait_answers(second, answers + 50)
        versions.point("champion", first)
        running.wait_version(first)
        answers = Counter(callers.answered.values())[first]
        callers.wait_answers(first, answers + 50)
        callers.stop()
        records = recorded(kafka, len(callers.answered))

    assert callers.failures == []
    assert set(callers.answered.values()) == {first, second}
    assert {record.prediction_id: record.model_version for record in records} == callers.answered
    for version in (first, second):
        record = next(record for record in records if record.model_version == version)
        assert record.score == run_onnx(onnx[version], record)


def test_a_restart_without_mlflow_and_kafka_serves_what_it_served(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str], environment: Mapping[str, str]
) -> None:
    version = versions.register()
    with inference(with_mlflow) as running:
        before = running.infer(entity_request("courier-1"))
        running.running.kill()

    with inference(environment) as running:
        after = running.infer(entity_request("courier-1"))
        detail = running.detail()
        started = time.monotonic()
        code = running.running.terminate()
        lasted_s = time.monotonic() - started
        output = running.running.output

    assert after.model_version == before.model_version == version
    assert probabilities(after) == probabilities(before)
    assert "MLflow at http://127.0.0.1:1" in detail
    assert code == 0 and lasted_s < 5
    assert "predictions_not_recorded" in output, "what Kafka never got is told"


def test_sigterm_answers_and_records_what_was_accepted(
    inference: RunInference, versions: Versions, with_all: Mapping[str, str], kafka: KafkaSettings
) -> None:
    versions.register()
    with inference(with_all) as running:
        callers = Callers(running, count=8)
        eventually(lambda: len(callers.answered) >= 200, "calls are answered")

        code = running.running.terminate()
        callers.join()
        output = running.running.output

    records = recorded(kafka, len(callers.answered))
    assert code == 0 and "predictions_not_recorded" not in output
    assert {error.code() for error in callers.failures} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}  # type: ignore[attr-defined]
    assert set(callers.answered) <= {record.prediction_id for record in records}
