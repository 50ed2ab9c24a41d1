"""The features service as inference sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray

from services.chassis.clock import from_proto, rfc3339
from services.chassis.errors import Conflict, Invalid, OutOfRange, Overloaded, SlipwayError, Unavailable
from services.chassis.grpc_server import MAX_MESSAGE_BYTES
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.inference.contract import ModelContract

# A restarted features service is found again within a second.
CHANNEL_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]

_CAUSES: dict[grpc.StatusCode, type[SlipwayError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
}
_LIST_OF = {"BYTES": "strings", "INT64": "ints", "FP64": "doubles"}


@dataclass(frozen=True, slots=True)
class EntityRows:
    """`columns` in the order of the contract's columns, each with a value for every row; `as_of_us` likewise."""

    columns: tuple[Sequence[str | int | float], ...]
    as_of_us: Sequence[int]

    @property
    def count(self) -> int:
        return len(self.as_of_us)


@dataclass(frozen=True, slots=True)
class Vectors:
    """`values` float32 [N, F], NaN for none; `statuses` one FeatureStatus byte for each; `watermark` RFC 3339 or ""."""

    values: NDArray[np.float32]
    statuses: bytes
    watermark: str


class FeatureClient:
    """Asks for vectors. Errors come as the cause that the service named; no answer in time is Unavailable."""

    def __init__(self, channel: grpc.aio.Channel, address: str, timeout_s: float) -> None:
        self._stub = features_pb2_grpc.FeaturesServiceStub(channel)  # type: ignore[no-untyped-call]
        self._address = address
        self._timeout_s = timeout_s

    async def vectors(self, contract: ModelContract, calls: Sequence[EntityRows]) -> Vectors:
        """The vectors of all rows of all calls, in that order, in one question."""
        request = features_pb2.GetVectorsRequest(feature_service=contract.feature_service)
        for position, column in enumerate(contract.columns):
            values = getattr(request.columns.add(name=column.name), _LIST_OF[column.datatype])
            for rows in calls:
                values.extend(rows.columns[position])
        for rows in calls:
            request.as_of_us.extend(rows.as_of_us)
        try:
            answer = await self._stub.GetVectors(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._cause(error) from error
        return _vectors(answer, len(request.as_of_us), len(contract.features))

    async def schema(self, feature_service: str) -> features_pb2.GetFeatureServiceSchemaResponse:
        """What the feature service needs and gives. Raises Invalid if there is none of that name."""
        request = features_pb2.GetFeatureServiceSchemaRequest(feature_service=feature_service)
        try:
            answer = await self._stub.GetFeatureServiceSchema(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise Invalid(f"features service: {error.details()}") from error
            raise self._cause(error) from error
        assert isinstance(answer, features_pb2.GetFeatureServiceSchemaResponse)
        return answer

    def _cause(self, error: grpc.aio.AioRpcError) -> SlipwayError:
        cause = _CAUSES.get(error.code())
        if cause is not None:
            return cause(str(error.details()))
        told = f"{error.code().name}: {error.details()}"
        return Unavailable(f"features service at {self._address}: {told}; no prediction without features")


def _vectors(answer: features_pb2.GetVectorsResponse, rows: int, features: int) -> Vectors:
    """Raises Unavailable if the answer has another size than the model's vector."""
    if len(answer.values) != 4 * rows * features or len(answer.statuses) != rows * features:
        raise Unavailable(
            f"features service answered {len(answer.values)} bytes for {rows} rows of {features} features, "
            f"expected {4 * rows * features}; its definitions changed since the model was loaded"
        )
    values: NDArray[np.float32] = np.frombuffer(answer.values, "<f4").reshape(rows, features)
    watermark = rfc3339(from_proto(answer.watermark)) if answer.HasField("watermark") else ""
    return Vectors(values, answer.statuses, watermark)
