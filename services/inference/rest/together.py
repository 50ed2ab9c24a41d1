"""Calls with vectors that arrive in the same turn of the event loop share one ONNX run and one round of records."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.chassis.errors import Overloaded
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.call import Told
from services.inference.predictor import Begun, Predictor
from services.inference.scorer import Scored, Scorer


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    begun: Begun
    answer: asyncio.Future[v2.ModelInferResponse]


class Together:
    """Answers as the predictor does; belongs to one event loop."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._waiting: list[_Waiting] = []

    async def infer(
        self, request: v2.ModelInferRequest, told: Told, time_left_s: float | None
    ) -> v2.ModelInferResponse:
        """Raises SlipwayError."""
        begun = self._predictor.begin(request, told, time_left_s)
        rows = begun.call.entity_rows
        if rows is not None:
            # These gather at the scorer, until their features are there.
            [response] = self._predictor.end([(begun, await begun.scorer.score_entities(rows, begun.deadline))])
            return response
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._answer_all)
        self._waiting.append(_Waiting(begun, loop.create_future()))
        return await self._waiting[-1].answer

    def _answer_all(self) -> None:
        together: dict[Scorer, list[_Waiting]] = {}
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            together.setdefault(each.begun.scorer, []).append(each)
        for scorer, calls in together.items():
            try:
                self._answer(scorer, calls)
            except Exception as error:  # every caller gets an answer, whatever went wrong
                for call in calls:
                    if not call.answer.done():
                        call.answer.set_exception(error)

    def _answer(self, scorer: Scorer, calls: list[_Waiting]) -> None:
        calls = [call for call in calls if not call.answer.done()]
        vectors = [call.begun.call.vectors for call in calls if call.begun.call.vectors is not None]
        good: list[tuple[_Waiting, Scored]] = []
        for call, scored in zip(calls, scorer.score_together(vectors), strict=True):
            if isinstance(scored, Scored):
                good.append((call, scored))
            else:
                call.answer.set_exception(scored)
        ended = self._predictor.end_each([(call.begun, scored) for call, scored in good])
        for (call, _), answer in zip(good, ended, strict=True):
            if isinstance(answer, Overloaded):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)
