"""From a request to its answer and its record; knows no gRPC context."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.clock import Now, to_proto
from services.chassis.errors import DeadlineExceeded, NotFound, Overloaded, Unavailable
from services.contracts.features.v1 import features_pb2
from services.contracts.inference.v1.predictions_pb2 import PredictionRecord
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.call import Assignment, CallReader, InferCall, Told, read_assignment
from services.inference.contract import ModelContract
from services.inference.feature_client import EntityRows, Vectors
from services.inference.loaded_model import OUTPUT, LoadedModel
from services.inference.metrics import InferenceMetrics
from services.inference.scorer import Limits, Scored, Scorer
from services.inference.tensors import encode_fp32

_MISSING, _STALE = features_pb2.FEATURE_STATUS_MISSING, features_pb2.FEATURE_STATUS_STALE
_SECOND = 1_000_000

Fetch = Callable[[ModelContract, Sequence[EntityRows]], Awaitable[Vectors]]
Metadata = Iterable[tuple[str, str | bytes]]


class CurrentModel(Protocol):
    """Where the loaded versions are found."""

    @property
    def current(self) -> LoadedModel | None:
        """The version that serves, None while there is none."""

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        """That version, then the ones that answer by their number."""

    @property
    def detail(self) -> str:
        """Why there is none, or why it is not the one that it should be."""


class Records(Protocol):
    """Where records go."""

    def check_room(self, rows: int) -> None:
        """Raises Overloaded if that many do not fit."""

    def add(self, records: Sequence[PredictionRecord]) -> None:
        """Takes all, or raises Overloaded."""


@dataclass(frozen=True, slots=True, eq=False)
class _Serving:
    model: LoadedModel
    reader: CallReader
    scorer: Scorer


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """A call that was read and found good; its score is to come. `deadline` is on the monotonic clock."""

    model: LoadedModel
    scorer: Scorer
    call: InferCall
    assignment: Assignment
    deadline: float | None
    started: float


class Predictor:
    """Answers for the registered model `name`. A call keeps the version it began with."""

    def __init__(
        self,
        name: str,
        variant: str,
        *,
        deployment: CurrentModel,
        fetch: Fetch,
        records: Records,
        metrics: InferenceMetrics,
        now: Now,
        limits: Limits,
        max_call_rows: int,
    ) -> None:
        self._name = name
        self._variant = variant
        self._deployment = deployment
        self._fetch = fetch
        self._records = records
        self._metrics = metrics
        self._now = now
        self._limits = limits
        self._max_call_rows = max_call_rows
        self._servings: dict[LoadedModel, _Serving] = {}

    @property
    def name(self) -> str:
        """The registered model's."""
        return self._name

    def model(self, name: str, version: str) -> LoadedModel:
        """That version, or without one what serves. Raises NotFound if it is not here, Unavailable if nothing is."""
        if name != self._name:
            raise NotFound(f"model {name!r} is not served here; expected {self._name!r}")
        loaded = self._deployment.loaded
        if not loaded:
            raise Unavailable(f"no version of {name!r} is loaded as {self._variant}: {self._deployment.detail}")
        for model in loaded:
            if version in ("", model.version):
                return model
        here = " and ".join(repr(model.version) for model in loaded)
        raise NotFound(f"version {version!r} of {name!r} is not loaded; {here} {'are' if loaded[1:] else 'is'}")

    async def infer(
        self, request: v2.ModelInferRequest, metadata: Metadata, time_left_s: float | None
    ) -> v2.ModelInferResponse:
        """Scores and records every row of the call, or raises a SlipwayError and records none."""
        told = {key: value for key, value in metadata if isinstance(value, str)}
        begun = self.begin(request, told.get, time_left_s)
        [response] = self.end([(begun, await _score(begun))])
        return response

    def begin(self, request: v2.ModelInferRequest, told: Told, time_left_s: float | None) -> Begun:
        """Reads a call. Raises a SlipwayError if it cannot be answered, whatever its score."""
        started = time.perf_counter()
        if time_left_s is not None and time_left_s <= 0:
            raise DeadlineExceeded("the call's deadline has passed")
        deadline = None if time_left_s is None else time.monotonic() + time_left_s
        serving = self._serving(self.model(request.model_name, request.model_version))
        assignment = read_assignment(told, self._variant)
        call = serving.reader.read(request)
        self._records.check_room(len(call.entity_ids))
        return Begun(serving.model, serving.scorer, call, assignment, deadline, started)

    def end(self, calls: Sequence[tuple[Begun, Scored]]) -> list[v2.ModelInferResponse]:
        """Records every row and makes the answers. Raises Overloaded if there is no room for the records of all."""
        ended, processed_at = time.perf_counter(), to_proto(self._now())
        self._records.add([record for call in calls for record in _records_of(*call, processed_at, ended)])
        self._count(calls, ended)
        return [_response(begun, scored) for begun, scored in calls]

    def end_each(self, calls: Sequence[tuple[Begun, Scored]]) -> Sequence[v2.ModelInferResponse | Overloaded]:
        """The same, and if there is no room for the records of all, for those of as many as there is."""
        try:
            return self.end(calls)
        except Overloaded as error:
            if len(calls) == 1:
                return [error]
            return [answer for call in calls for answer in self.end_each([call])]

    def _serving(self, model: LoadedModel) -> _Serving:
        serving = self._servings.get(model)
        if serving is None:
            loaded = self._deployment.loaded
            self._servings = {each: kept for each, kept in self._servings.items() if each in loaded}
            serving = self._servings[model] = _Serving(
                model,
                CallReader(model.contract, self._now, self._max_call_rows),
                Scorer(model, partial(self._fetch, model.contract), self._limits, self._metrics),
            )
        return serving

    def _count(self, calls: Sequence[tuple[Begun, Scored]], ended: float) -> None:
        for begun, _ in calls:
            self._metrics.latency.observe(ended - begun.started)
        self._metrics.rows.inc(sum(len(scored.probabilities) for _, scored in calls))
        for counter, status in ((self._metrics.missing, _MISSING), (self._metrics.stale, _STALE)):
            if count := sum(scored.statuses.count(status) for _, scored in calls):
                counter.inc(count)


def _records_of(begun: Begun, scored: Scored, processed_at: Timestamp, ended: float) -> list[PredictionRecord]:
    model, call, assignment = begun.model, begun.call, begun.assignment
    width = len(model.contract.features)
    as_of = Timestamp(seconds=call.as_of_us // _SECOND, nanos=call.as_of_us % _SECOND * 1000)
    latency_s = ended - begun.started
    return [
        PredictionRecord(
            prediction_id=call.row_id(row),
            request_id=call.request_id,
            entity_id=entity_id,
            model=model.name,
            model_version=model.version,
            onnx_sha256=model.onnx_sha256,
            variant=assignment.variant,
            release_id=assignment.release_id,
            assignment_probability=assignment.probability,
            routing_key=assignment.routing_key,
            as_of=as_of,
            processed_at=processed_at,
            vector=scored.vectors[row].tobytes(),
            statuses=scored.statuses[row * width : (row + 1) * width],
            feature_service=model.contract.feature_service,
            score=score,
            latency_s=latency_s,
        )
        for row, (entity_id, score) in enumerate(zip(call.entity_ids, scored.probabilities.tolist(), strict=True))
    ]


async def _score(begun: Begun) -> Scored:
    if begun.call.entity_rows is not None:
        return await begun.scorer.score_entities(begun.call.entity_rows, begun.deadline)
    assert begun.call.vectors is not None
    return begun.scorer.score_vectors(begun.call.vectors)


def _response(begun: Begun, scored: Scored) -> v2.ModelInferResponse:
    model, call = begun.model, begun.call
    response = v2.ModelInferResponse(model_name=model.name, model_version=model.version, id=call.request_id)
    parameters = response.parameters
    parameters["prediction_id"].string_param = call.row_id(0)
    parameters["variant"].string_param = begun.assignment.variant
    _flag(response, "missing", _MISSING, scored.statuses, model.contract.features)
    _flag(response, "stale", _STALE, scored.statuses, model.contract.features)
    if scored.watermark:
        parameters["watermark"].string_param = scored.watermark
    encode_fp32(response, OUTPUT, scored.probabilities, raw=call.raw)
    return response


def _flag(response: v2.ModelInferResponse, what: str, status: int, statuses: bytes, features: Sequence[str]) -> None:
    """How many values of all rows have that status, and of which features."""
    count = statuses.count(status)
    response.parameters[f"{what}_features"].int64_param = count
    if count:
        width = len(features)
        named = [name for at, name in enumerate(features) if status in statuses[at::width]]
        response.parameters[f"{what}_feature_names"].string_param = ",".join(named)
