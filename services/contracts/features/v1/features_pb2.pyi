import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_STRING: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]
    DATA_TYPE_DOUBLE: _ClassVar[DataType]
    DATA_TYPE_TIMESTAMP: _ClassVar[DataType]

class FeatureStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_STATUS_UNSPECIFIED: _ClassVar[FeatureStatus]
    FEATURE_STATUS_PRESENT: _ClassVar[FeatureStatus]
    FEATURE_STATUS_MISSING: _ClassVar[FeatureStatus]
    FEATURE_STATUS_STALE: _ClassVar[FeatureStatus]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_STRING: DataType
DATA_TYPE_INT64: DataType
DATA_TYPE_DOUBLE: DataType
DATA_TYPE_TIMESTAMP: DataType
FEATURE_STATUS_UNSPECIFIED: FeatureStatus
FEATURE_STATUS_PRESENT: FeatureStatus
FEATURE_STATUS_MISSING: FeatureStatus
FEATURE_STATUS_STALE: FeatureStatus

class Column(_message.Message):
    __slots__ = ("name", "strings", "ints", "doubles")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    INTS_FIELD_NUMBER: _ClassVar[int]
    DOUBLES_FIELD_NUMBER: _ClassVar[int]
    name: str
    strings: _containers.RepeatedScalarFieldContainer[str]
    ints: _containers.RepeatedScalarFieldContainer[int]
    doubles: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., strings: _Optional[_Iterable[str]] = ..., ints: _Optional[_Iterable[int]] = ..., doubles: _Optional[_Iterable[float]] = ...) -> None: ...

class GetVectorsRequest(_message.Message):
    __slots__ = ("feature_service", "columns", "as_of_us")
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    feature_service: str
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    as_of_us: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, feature_service: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., as_of_us: _Optional[_Iterable[int]] = ...) -> None: ...

class GetVectorsResponse(_message.Message):
    __slots__ = ("values", "statuses", "watermark")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    values: bytes
    statuses: bytes
    watermark: _timestamp_pb2.Timestamp
    def __init__(self, values: _Optional[bytes] = ..., statuses: _Optional[bytes] = ..., watermark: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetFeatureServiceSchemaRequest(_message.Message):
    __slots__ = ("feature_service",)
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    feature_service: str
    def __init__(self, feature_service: _Optional[str] = ...) -> None: ...

class Field(_message.Message):
    __slots__ = ("name", "data_type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    data_type: DataType
    def __init__(self, name: _Optional[str] = ..., data_type: _Optional[_Union[DataType, str]] = ...) -> None: ...

class GetFeatureServiceSchemaResponse(_message.Message):
    __slots__ = ("join_keys", "request_fields", "features")
    JOIN_KEYS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELDS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    join_keys: _containers.RepeatedCompositeFieldContainer[Field]
    request_fields: _containers.RepeatedCompositeFieldContainer[Field]
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, join_keys: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., request_fields: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class GetWatermarkRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetWatermarkResponse(_message.Message):
    __slots__ = ("watermark",)
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    watermark: _timestamp_pb2.Timestamp
    def __init__(self, watermark: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BuildTrainingSetRequest(_message.Message):
    __slots__ = ("to", "known_by", "without_labels")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    KNOWN_BY_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_LABELS_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    known_by: _timestamp_pb2.Timestamp
    without_labels: bool
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., known_by: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., without_labels: _Optional[bool] = ..., **kwargs) -> None: ...

class BuildTrainingSetResponse(_message.Message):
    __slots__ = ("stage", "training_set")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TRAINING_SET_FIELD_NUMBER: _ClassVar[int]
    stage: str
    training_set: TrainingSet
    def __init__(self, stage: _Optional[str] = ..., training_set: _Optional[_Union[TrainingSet, _Mapping]] = ...) -> None: ...

class TrainingSet(_message.Message):
    __slots__ = ("uri", "digest", "rows", "unlabelled_rows", "features")
    URI_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    UNLABELLED_ROWS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    uri: str
    digest: str
    rows: int
    unlabelled_rows: int
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, uri: _Optional[str] = ..., digest: _Optional[str] = ..., rows: _Optional[int] = ..., unlabelled_rows: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...
