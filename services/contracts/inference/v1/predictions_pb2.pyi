import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictionRecords(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[PredictionRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[PredictionRecord, _Mapping]]] = ...) -> None: ...

class PredictionRecord(_message.Message):
    __slots__ = ("prediction_id", "request_id", "entity_id", "model", "model_version", "onnx_sha256", "variant", "release_id", "assignment_probability", "routing_key", "as_of", "processed_at", "vector", "statuses", "feature_service", "score", "latency_s")
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ONNX_SHA256_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    ROUTING_KEY_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    PROCESSED_AT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    request_id: str
    entity_id: str
    model: str
    model_version: str
    onnx_sha256: str
    variant: str
    release_id: str
    assignment_probability: float
    routing_key: str
    as_of: _timestamp_pb2.Timestamp
    processed_at: _timestamp_pb2.Timestamp
    vector: bytes
    statuses: bytes
    feature_service: str
    score: float
    latency_s: float
    def __init__(self, prediction_id: _Optional[str] = ..., request_id: _Optional[str] = ..., entity_id: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., onnx_sha256: _Optional[str] = ..., variant: _Optional[str] = ..., release_id: _Optional[str] = ..., assignment_probability: _Optional[float] = ..., routing_key: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., processed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., vector: _Optional[bytes] = ..., statuses: _Optional[bytes] = ..., feature_service: _Optional[str] = ..., score: _Optional[float] = ..., latency_s: _Optional[float] = ...) -> None: ...
