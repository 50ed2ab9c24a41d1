"""The fast edge: ModelInfer on the chassis' fast lane. What came in one read shares one ONNX run or one question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import grpc
from google.protobuf.message import DecodeError

from services.chassis.errors import Invalid, Overloaded, SlipwayError
from services.chassis.fastlane import Call
from services.chassis.grpc_server import status_of
from services.chassis.logging import get_logger
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.metrics import InferenceMetrics
from services.inference.predictor import Begun, Predictor
from services.inference.scorer import Scored, Scorer

PATH = "/inference.GRPCInferenceService/ModelInfer"
_INTERNAL = "internal error; the server's log has the details"


class FastInfer:
    """The method of the fast lane; answers as the servicer's ModelInfer does."""

    def __init__(self, predictor: Predictor, metrics: InferenceMetrics) -> None:
        self._predictor = predictor
        self._metrics = metrics
        self._answered = metrics.requests.labels(grpc.StatusCode.OK.name)

    def __call__(self, calls: Sequence[Call]) -> None:
        """Answers calls with vectors now, calls with entities when their features are there."""
        of_vectors: dict[Scorer, list[tuple[Call, Begun]]] = {}
        for call in calls:
            try:
                begun = self._predictor.begin(_request(call.message), call.metadata, call.time_left())
                if begun.call.entity_rows is None:
                    of_vectors.setdefault(begun.scorer, []).append((call, begun))
                else:
                    self._answer_later(call, begun)
            except Exception as error:
                self._fail(call, error)
        for scorer, together in of_vectors.items():
            self._answer_now(scorer, together)

    def _answer_now(self, scorer: Scorer, calls: Sequence[tuple[Call, Begun]]) -> None:
        vectors = [begun.call.vectors for _, begun in calls if begun.call.vectors is not None]
        good = []
        for (call, begun), scored in zip(calls, scorer.score_together(vectors), strict=True):
            if isinstance(scored, Scored):
                good.append((call, begun, scored))
            else:
                self._fail(call, scored)
        self._answer(good)

    def _answer_later(self, call: Call, begun: Begun) -> None:
        assert begun.call.entity_rows is not None
        scored = begun.scorer.submit(begun.call.entity_rows, begun.deadline)
        call.on_cancel(scored.cancel)
        scored.add_done_callback(partial(self._scored, call, begun))

    def _scored(self, call: Call, begun: Begun, scored: asyncio.Future[Scored]) -> None:
        if scored.cancelled() or call.done:
            self._count(grpc.StatusCode.CANCELLED)
            return
        error = scored.exception()
        if error is None:
            self._answer([(call, begun, scored.result())])
        else:
            self._fail(call, error)

    def _answer(self, calls: Sequence[tuple[Call, Begun, Scored]]) -> None:
        try:
            ended = self._predictor.end_each([(begun, scored) for _, begun, scored in calls])
            answers = [each if isinstance(each, Overloaded) else each.SerializeToString() for each in ended]
        except Exception as error:
            for call, _, _ in calls:
                self._fail(call, error)
            return
        for (call, _, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, Overloaded):
                self._fail(call, answer)
            else:
                call.answer(answer)
                self._answered.inc()

    def _fail(self, call: Call, error: BaseException) -> None:
        code, details = grpc.StatusCode.INTERNAL, _INTERNAL
        if isinstance(error, SlipwayError):
            code, details = status_of(error), str(error)
        else:
            get_logger().error("call_failed", method=PATH, exc_info=error)
        self._count(code)
        call.fail(code, details)

    def _count(self, code: grpc.StatusCode) -> None:
        self._metrics.requests.labels(code.name).inc()


def _request(message: bytes) -> v2.ModelInferRequest:
    try:
        return v2.ModelInferRequest.FromString(message)
    except DecodeError as error:
        raise Invalid(f"the message is no ModelInferRequest: {error}") from error
