"""The features service as training sees it: what a feature service gives, and training sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import grpc

from services.chassis.clock import to_proto
from services.chassis.errors import Invalid, OutOfRange, SlipwayError, Unavailable
from services.chassis.grpc_server import MAX_MESSAGE_BYTES
from services.contracts.features.v1 import features_pb2 as pb
from services.contracts.features.v1 import features_pb2_grpc as rpc
from services.training.contract import Column, FeatureSchema
from services.training.dataset import TrainingSet

_SCHEMA_TIMEOUT_S = 10.0
_OPTIONS = [
    # A features service that restarts is asked again within a second, not after gRPC's two minutes.
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]
_CAUSES: dict[grpc.StatusCode, type[SlipwayError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.NOT_FOUND: Invalid,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    # A lake that has not come far enough comes further; what fails inside the service may be a part that it lost.
    grpc.StatusCode.FAILED_PRECONDITION: Unavailable,
    grpc.StatusCode.INTERNAL: Unavailable,
}
_DATATYPES = {
    pb.DATA_TYPE_STRING: "BYTES",
    pb.DATA_TYPE_TIMESTAMP: "BYTES",
    pb.DATA_TYPE_INT64: "INT64",
    pb.DATA_TYPE_DOUBLE: "FP64",
}


class FeaturesClient:
    """Raises the cause that the service named; Unavailable if it does not answer, or may answer later."""

    def __init__(self, address: str, dataset_timeout_s: float) -> None:
        self._address = address
        self._dataset_timeout_s = dataset_timeout_s
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub = rpc.FeaturesServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Ends the calls in progress, too."""
        self._channel.close()

    def schema(self, feature_service: str) -> FeatureSchema:
        """What a feature service needs and gives."""
        request = pb.GetFeatureServiceSchemaRequest(feature_service=feature_service)
        try:
            answer = self._stub.GetFeatureServiceSchema(request, timeout=_SCHEMA_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._cause(error) from error
        return FeatureSchema(_columns(answer.join_keys), _columns(answer.request_fields), tuple(answer.features))

    def build_training_set(self, begin: datetime, end: datetime, tell: Callable[[str], None]) -> TrainingSet:
        """Rows whose prediction moment lies in [begin, end). `tell` hears what is being done."""
        request = pb.BuildTrainingSetRequest(to=to_proto(end))
        # `from` is a word of Python.
        getattr(request, "from").CopyFrom(to_proto(begin))
        try:
            for answer in self._stub.BuildTrainingSet(request, timeout=self._dataset_timeout_s):
                if answer.HasField("training_set"):
                    return _training_set(answer.training_set)
                tell(answer.stage)
        except grpc.RpcError as error:
            raise self._cause(error) from error
        raise Unavailable(f"features service at {self._address} ended its answer without a training set")

    def _cause(self, error: grpc.RpcError) -> SlipwayError:
        code, details = error.code(), error.details()
        if code in _CAUSES:
            return _CAUSES[code](f"features service: {details}")
        return Unavailable(f"features service at {self._address} does not answer: {code.name}: {details}")


def _training_set(told: pb.TrainingSet) -> TrainingSet:
    return TrainingSet(told.uri, told.digest, told.rows, told.unlabelled_rows, tuple(told.features))


def _columns(fields: Iterable[pb.Field]) -> tuple[Column, ...]:
    return tuple(Column(field.name, _datatype(field)) for field in fields)


def _datatype(field: pb.Field) -> str:
    if field.data_type not in _DATATYPES:
        raise Invalid(f"features service: {field.name} has the data type {field.data_type}, which no client can send")
    return _DATATYPES[field.data_type]
