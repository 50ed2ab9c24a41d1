"""The features service as a batch run sees it: rows of a past range with their vectors, as files in a shared folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import grpc

from services.chassis.clock import to_proto
from services.chassis.errors import Conflict, Invalid, Overloaded, SlipwayError, Unavailable
from services.contracts.features.v1 import features_pb2, features_pb2_grpc

Tell = Callable[[str], None]

_SCHEMA_TIMEOUT_S = 10.0
_BUILD_TIMEOUT_S = 3600.0
# A proxy of the environment is not meant for the platform's own network.
_OPTIONS = [("grpc.enable_http_proxy", 0)]
_CAUSES: dict[grpc.StatusCode, type[SlipwayError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.NOT_FOUND: Invalid,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
}


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """`uri` of a Parquet file: entity id, `as_of`, request fields, join keys, and the `features` by name."""

    uri: str
    features: tuple[str, ...]


class FeatureSets(Protocol):
    """What builds them."""

    def schema(self, feature_service: str) -> features_pb2.GetFeatureServiceSchemaResponse:
        """What the feature service needs and gives. Raises Invalid if there is none of that name."""

    def build(self, begin: datetime, end: datetime, tell: Tell) -> FeatureSet:
        """Every row whose prediction moment lies in [begin, end). `tell` hears what is being done."""


class FeatureSetsClient:
    """Raises the cause that the service named, else Unavailable."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub = features_pb2_grpc.FeaturesServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Ends the calls in progress, too."""
        self._channel.close()

    def schema(self, feature_service: str) -> features_pb2.GetFeatureServiceSchemaResponse:
        """See FeatureSets."""
        request = features_pb2.GetFeatureServiceSchemaRequest(feature_service=feature_service)
        try:
            answer = self._stub.GetFeatureServiceSchema(request, timeout=_SCHEMA_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._cause(error) from error
        assert isinstance(answer, features_pb2.GetFeatureServiceSchemaResponse)
        return answer

    def build(self, begin: datetime, end: datetime, tell: Tell) -> FeatureSet:
        """See FeatureSets."""
        request = features_pb2.BuildTrainingSetRequest(to=to_proto(end), without_labels=True)
        # `from` is a word of Python.
        getattr(request, "from").CopyFrom(to_proto(begin))
        try:
            for answer in self._stub.BuildTrainingSet(request, timeout=_BUILD_TIMEOUT_S):
                if answer.HasField("training_set"):
                    return FeatureSet(answer.training_set.uri, tuple(answer.training_set.features))
                tell(answer.stage)
        except grpc.RpcError as error:
            raise self._cause(error) from error
        raise Unavailable(f"features service at {self._address} ended its answer without a set")

    def _cause(self, error: Any) -> SlipwayError:
        code, details = error.code(), error.details()
        if code in _CAUSES:
            return _CAUSES[code](f"features service: {details}")
        return Unavailable(f"features service at {self._address} does not answer: {code.name}: {details}")
