"""The gRPC edge: translates, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import grpc

from services.chassis.clock import Now, from_proto, from_us, to_proto, to_us
from services.chassis.errors import DeadlineExceeded, Invalid, NotFound, Overloaded
from services.chassis.grpc_server import streaming, unary
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.features import metrics
from services.features.builds import Builds
from services.features.definitions import Column, DataType
from services.features.redis_store import ServeStore
from services.features.rows import Given, Rows, check_rows
from services.features.training_sets import TrainingSet
from services.features.vectors import Vectors, VectorService

SERVICE = features_pb2.DESCRIPTOR.services_by_name["FeaturesService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]

_DATA_TYPES = {
    DataType.STRING: features_pb2.DATA_TYPE_STRING,
    DataType.INT64: features_pb2.DATA_TYPE_INT64,
    DataType.DOUBLE: features_pb2.DATA_TYPE_DOUBLE,
    DataType.TIMESTAMP: features_pb2.DATA_TYPE_TIMESTAMP,
}


class FeaturesServicer(features_pb2_grpc.FeaturesServiceServicer):
    """`slipway.features.v1.FeaturesService`."""

    def __init__(
        self,
        services: Mapping[str, VectorService],
        store: ServeStore,
        builds: Builds,
        statuses: metrics.StatusCounts,
        now: Now,
        *,
        max_rows: int,
        max_calls: int,
    ) -> None:
        self._services = services
        self._store = store
        self._builds = builds
        self._statuses = statuses
        self._now = now
        self._max_rows = max_rows
        self._max_calls = max_calls
        self._calls = 0

    @unary
    async def GetVectors(
        self, request: features_pb2.GetVectorsRequest, context: Context
    ) -> features_pb2.GetVectorsResponse:
        """Raises NOT_FOUND, INVALID_ARGUMENT, OUT_OF_RANGE, RESOURCE_EXHAUSTED, UNAVAILABLE."""
        if self._calls >= self._max_calls:
            raise Overloaded(f"{self._calls} calls are in progress; try again later")
        # None without a deadline; never below 0.
        left_s = context.time_remaining()
        if left_s is not None and left_s <= 0:
            raise DeadlineExceeded("the caller's deadline has passed")
        service = self._service(request.feature_service)
        self._calls += 1
        try:
            with metrics.CALL.labels(service.plan.name).time():
                rows = self._rows(service, request)
                vectors = await service.vectors(rows)
        finally:
            self._calls -= 1
        metrics.ROWS.labels(service.plan.name).inc(len(rows.as_of_us))
        self._statuses.count(service.plan.name, service.features, vectors.statuses)
        return _response(vectors)

    @unary
    async def GetFeatureServiceSchema(
        self,
        request: features_pb2.GetFeatureServiceSchemaRequest,
        context: Context,  # noqa: ARG002  gRPC passes it
    ) -> features_pb2.GetFeatureServiceSchemaResponse:
        """Raises NOT_FOUND."""
        service = self._service(request.feature_service)
        return features_pb2.GetFeatureServiceSchemaResponse(
            join_keys=[_field(column) for column in service.plan.join_keys],
            request_fields=[_field(column) for column in service.plan.request_fields],
            features=service.features,
        )

    @unary
    async def GetWatermark(
        self,
        request: features_pb2.GetWatermarkRequest,  # noqa: ARG002  gRPC passes it
        context: Context,  # noqa: ARG002  gRPC passes it
    ) -> features_pb2.GetWatermarkResponse:
        """Raises UNAVAILABLE."""
        watermark_us = await self._store.watermark_us()
        return features_pb2.GetWatermarkResponse(
            watermark=None if watermark_us is None else to_proto(from_us(watermark_us))
        )

    @streaming
    async def BuildTrainingSet(
        self,
        request: features_pb2.BuildTrainingSetRequest,
        context: Context,  # noqa: ARG002  gRPC passes it
    ) -> AsyncIterator[features_pb2.BuildTrainingSetResponse]:
        """Raises INVALID_ARGUMENT, FAILED_PRECONDITION, RESOURCE_EXHAUSTED, UNAVAILABLE."""
        from_, to, known_by = _range(request)
        loop = asyncio.get_running_loop()
        stages: asyncio.Queue[str | None] = asyncio.Queue()

        def tell(stage: str) -> None:
            loop.call_soon_threadsafe(stages.put_nowait, stage)

        labels = not request.without_labels
        building = asyncio.create_task(self._builds.run(from_, to, known_by, tell, labels=labels))
        building.add_done_callback(lambda _: stages.put_nowait(None))
        try:
            while (stage := await stages.get()) is not None:
                yield features_pb2.BuildTrainingSetResponse(stage=stage)
            yield features_pb2.BuildTrainingSetResponse(stage="built", training_set=_training_set(await building))
        finally:
            # For nobody any more, if the caller has left.
            building.cancel()

    def _service(self, name: str) -> VectorService:
        if name not in self._services:
            raise NotFound(f"feature_service {name!r} does not exist; there are {', '.join(sorted(self._services))}")
        return self._services[name]

    def _rows(self, service: VectorService, request: features_pb2.GetVectorsRequest) -> Rows:
        given = [
            Given(column.name, {"strings": column.strings, "ints": column.ints, "doubles": column.doubles})
            for column in request.columns
        ]
        return check_rows(service.plan, given, request.as_of_us, to_us(self._now()), self._max_rows)


def _response(vectors: Vectors) -> features_pb2.GetVectorsResponse:
    return features_pb2.GetVectorsResponse(
        values=vectors.values.tobytes(),
        statuses=vectors.statuses.tobytes(),
        watermark=None if vectors.watermark_us is None else to_proto(from_us(vectors.watermark_us)),
    )


def _field(column: Column) -> features_pb2.Field:
    return features_pb2.Field(name=column.name, data_type=_DATA_TYPES[column.data_type])


def _range(request: features_pb2.BuildTrainingSetRequest) -> tuple[datetime, datetime, datetime]:
    for name in ("from", "to"):
        if not request.HasField(name):
            raise Invalid(f"{name}: not set; rows have their prediction moment in [from, to)")
    from_, to = _moment(request, "from"), _moment(request, "to")
    return from_, to, _moment(request, "known_by") if request.HasField("known_by") else to


def _moment(request: features_pb2.BuildTrainingSetRequest, name: str) -> datetime:
    try:
        return from_proto(getattr(request, name))
    except ValueError as error:
        raise Invalid(f"{name}: no instant of the years 1 to 9999: {error}") from error


def _training_set(built: TrainingSet) -> features_pb2.TrainingSet:
    return features_pb2.TrainingSet(
        uri=built.uri,
        digest=built.digest,
        rows=built.rows,
        unlabelled_rows=built.unlabelled_rows,
        features=built.features,
    )
