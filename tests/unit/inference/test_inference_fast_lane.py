"""ModelInfer on the fast lane says what the servicer says, word for word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.fast_lane import PATH, FastInfer
from services.inference.loaded_model import LoadedModel
from services.inference.predictor import Predictor
from services.inference.scorer import Limits
from tests.support.tiny_models import FEATURES
from tests.unit.chassis.fastlane.peers import Answer, Client, Server, message
from tests.unit.inference.fakes import (
    MODEL,
    NOW,
    FakeDeployment,
    FakeFeatures,
    FakeRecords,
    infer_request,
    make_metrics,
    make_model,
)


class CountingModel:
    """Remembers how many rows each run had."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self.runs: list[int] = []
        self.fails_on: float | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        self.runs.append(len(vectors))
        if self.fails_on in vectors[:, 0]:
            raise RuntimeError("the runtime fails")
        return self._model.probabilities(vectors)


class Lane:
    """A client of ModelInfer on the fast lane, among fakes."""

    def __init__(self) -> None:
        self.model = CountingModel(make_model("7"))
        self.features = FakeFeatures()
        self.records = FakeRecords()
        self.metrics = make_metrics()
        predictor = Predictor(
            MODEL,
            "champion",
            deployment=FakeDeployment(self.model),  # type: ignore[arg-type]
            fetch=self.features.fetch,
            records=self.records,
            metrics=self.metrics,
            now=lambda: NOW,
            limits=Limits(),
            max_call_rows=4,
        )
        self.server = Server(methods={PATH: FastInfer(predictor, self.metrics)})
        self.client = Client(self.server)

    def send(self, *requests: v2.ModelInferRequest, metadata: Sequence[tuple[str, str]] = ()) -> list[int]:
        """All in one write."""
        sent = [self.client.call(message(request.SerializeToString()), PATH, metadata) for request in requests]
        self.client.exchange()
        return sent

    async def answers(self, streams: Sequence[int]) -> list[Answer]:
        async with asyncio.timeout(5):
            while any(self.client.answers[stream].status is None for stream in streams):
                await asyncio.sleep(0)
                self.client.see()
        return [self.client.answers[stream] for stream in streams]


def vector(*values: float, **changes: str) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name=MODEL, **changes)
    tensor = request.inputs.add(name="features", datatype="FP32", shape=[1, len(FEATURES)])
    tensor.contents.fp32_contents.extend(values)
    return request


def response(answer: Answer) -> v2.ModelInferResponse:
    assert answer.status == "0", answer
    return v2.ModelInferResponse.FromString(answer.body[5:])


async def test_calls_of_one_read_share_one_run_and_each_gets_its_own_answer() -> None:
    lane = Lane()

    answers = await lane.answers(lane.send(*(vector(n, 0, n, id=f"c{n}") for n in range(5))))

    assert lane.model.runs == [5]
    alone = [float(lane.model.probabilities(np.array([[n, 0, n]], np.float32))[0]) for n in range(5)]
    assert [response(answer).outputs[0].contents.fp32_contents[0] for answer in answers] == alone
    assert [response(answer).id for answer in answers] == [f"c{n}" for n in range(5)]
    assert [record.prediction_id for record in lane.records.added] == [f"c{n}" for n in range(5)]


async def test_entity_calls_share_one_question_and_come_when_it_is_answered() -> None:
    lane = Lane()

    answers = await lane.answers(lane.send(infer_request(rows=2, id="a"), infer_request(rows=1, id="b")))

    assert len(lane.features.questions) == 1
    assert [len(response(answer).outputs[0].contents.fp32_contents) for answer in answers] == [2, 1]
    assert {record.prediction_id for record in lane.records.added} == {"a-0", "a-1", "b"}


async def test_the_assignment_is_read_from_the_metadata() -> None:
    lane = Lane()
    told = [("x-slipway-variant", "challenger"), ("x-slipway-release", "r9"), ("x-slipway-weight", "500")]

    await lane.answers(lane.send(vector(1, 2, 3), metadata=[*told, ("x-routing-key", "k")]))

    [record] = lane.records.added
    assert (record.variant, record.release_id, record.routing_key) == ("challenger", "r9", "k")
    assert record.assignment_probability == 0.05


async def test_a_bad_call_fails_alone_with_its_reason() -> None:
    lane = Lane()
    good, wrong_model = vector(1, 2, 3), vector(1, 2, 3)
    wrong_model.model_name = "another"
    bad_weight = [("x-slipway-weight", "much")]

    streams = lane.send(good, wrong_model, vector(1, 2), infer_request(rows=5))
    streams += lane.send(good, metadata=bad_weight)
    streams.append(lane.client.call(message(b"\xff\xff"), PATH))
    streams.append(lane.client.call(message(good.SerializeToString()), PATH, [("grpc-timeout", "0n")]))
    lane.client.exchange()
    answers = await lane.answers(streams)

    assert [answer.status for answer in answers] == ["0", "5", "3", "3", "3", "3", "4"]
    told = [unquote(answer.message or "") for answer in answers[1:]]
    assert "model 'another' is not served here" in told[0]
    assert "tensor 'features'" in told[1]
    assert "1 to 4 rows, got 5" in told[2]
    assert "x-slipway-weight" in told[3]
    assert "no ModelInferRequest" in told[4]
    assert "deadline" in told[5]
    assert lane.metrics.requests.labels("INVALID_ARGUMENT")._value.get() == 4


async def test_a_full_record_queue_refuses_before_the_model_runs() -> None:
    lane = Lane()
    lane.records.full = True

    [answer] = await lane.answers(lane.send(vector(1, 2, 3)))

    assert answer.status == "8"
    assert lane.model.runs == []


async def test_room_for_some_records_answers_some() -> None:
    lane = Lane()
    lane.records.room = 3

    answers = await lane.answers(lane.send(*(vector(n, 0, n) for n in range(4))))

    assert [answer.status for answer in answers] == ["0", "0", "0", "8"]
    assert len(lane.records.added) == 3


async def test_a_call_that_the_runtime_fails_on_fails_alone() -> None:
    lane = Lane()
    lane.model.fails_on = 2.0

    answers = await lane.answers(lane.send(*(vector(n, 0, n) for n in range(4)), infer_request(rows=1)))

    assert [answer.status for answer in answers] == ["0", "0", "13", "0", "0"]
    assert len(lane.records.added) == 4
    assert lane.metrics.requests.labels("INTERNAL")._value.get() == 1


async def test_a_caller_that_gives_up_is_neither_scored_nor_recorded() -> None:
    lane = Lane()
    [stream] = lane.send(infer_request(rows=1))

    lane.client.h2.reset_stream(stream)
    lane.client.exchange()
    for _ in range(20):
        await asyncio.sleep(0)

    assert lane.records.added == []
    assert lane.metrics.requests.labels("CANCELLED")._value.get() == 1
