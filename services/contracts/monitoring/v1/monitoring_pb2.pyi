import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetQualityRequest(_message.Message):
    __slots__ = ("model", "versions", "release_id", "to", "window_s", "by_weight")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    BY_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    model: str
    versions: _containers.RepeatedScalarFieldContainer[str]
    release_id: str
    to: _timestamp_pb2.Timestamp
    window_s: int
    by_weight: bool
    def __init__(self, model: _Optional[str] = ..., versions: _Optional[_Iterable[str]] = ..., release_id: _Optional[str] = ..., to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., window_s: _Optional[int] = ..., by_weight: _Optional[bool] = ..., **kwargs) -> None: ...

class GetQualityResponse(_message.Message):
    __slots__ = ("windows", "watermark")
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    windows: _containers.RepeatedCompositeFieldContainer[Quality]
    watermark: _timestamp_pb2.Timestamp
    def __init__(self, windows: _Optional[_Iterable[_Union[Quality, _Mapping]]] = ..., watermark: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Quality(_message.Message):
    __slots__ = ("model_version", "variant", "to", "predictions", "labels", "positive_rate", "mean_score", "auc", "log_loss", "brier", "calibration_error", "log_loss_se", "challenger_weight")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_RATE_FIELD_NUMBER: _ClassVar[int]
    MEAN_SCORE_FIELD_NUMBER: _ClassVar[int]
    AUC_FIELD_NUMBER: _ClassVar[int]
    LOG_LOSS_FIELD_NUMBER: _ClassVar[int]
    BRIER_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    LOG_LOSS_SE_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    variant: str
    to: _timestamp_pb2.Timestamp
    predictions: int
    labels: int
    positive_rate: float
    mean_score: float
    auc: float
    log_loss: float
    brier: float
    calibration_error: float
    log_loss_se: float
    challenger_weight: int
    def __init__(self, model_version: _Optional[str] = ..., variant: _Optional[str] = ..., to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., predictions: _Optional[int] = ..., labels: _Optional[int] = ..., positive_rate: _Optional[float] = ..., mean_score: _Optional[float] = ..., auc: _Optional[float] = ..., log_loss: _Optional[float] = ..., brier: _Optional[float] = ..., calibration_error: _Optional[float] = ..., log_loss_se: _Optional[float] = ..., challenger_weight: _Optional[int] = ..., **kwargs) -> None: ...

class GetCountsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCountsResponse(_message.Message):
    __slots__ = ("recorded", "joined", "void", "pending", "expired", "duplicate_predictions", "duplicate_labels", "watermark")
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    VOID_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_LABELS_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    recorded: int
    joined: int
    void: int
    pending: int
    expired: int
    duplicate_predictions: int
    duplicate_labels: int
    watermark: _timestamp_pb2.Timestamp
    def __init__(self, recorded: _Optional[int] = ..., joined: _Optional[int] = ..., void: _Optional[int] = ..., pending: _Optional[int] = ..., expired: _Optional[int] = ..., duplicate_predictions: _Optional[int] = ..., duplicate_labels: _Optional[int] = ..., watermark: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetDriftRequest(_message.Message):
    __slots__ = ("to",)
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., **kwargs) -> None: ...

class GetDriftResponse(_message.Message):
    __slots__ = ("reference_version", "features")
    REFERENCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    reference_version: str
    features: _containers.RepeatedCompositeFieldContainer[FeatureDrift]
    def __init__(self, reference_version: _Optional[str] = ..., features: _Optional[_Iterable[_Union[FeatureDrift, _Mapping]]] = ...) -> None: ...

class FeatureDrift(_message.Message):
    __slots__ = ("feature", "psi", "threshold", "drifted", "missing_share", "rows")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    PSI_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    DRIFTED_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    feature: str
    psi: float
    threshold: float
    drifted: bool
    missing_share: float
    rows: int
    def __init__(self, feature: _Optional[str] = ..., psi: _Optional[float] = ..., threshold: _Optional[float] = ..., drifted: _Optional[bool] = ..., missing_share: _Optional[float] = ..., rows: _Optional[int] = ...) -> None: ...

class ListTriggersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTriggersResponse(_message.Message):
    __slots__ = ("triggers",)
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    triggers: _containers.RepeatedCompositeFieldContainer[Trigger]
    def __init__(self, triggers: _Optional[_Iterable[_Union[Trigger, _Mapping]]] = ...) -> None: ...

class Trigger(_message.Message):
    __slots__ = ("request_id", "kind", "reason", "event_time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    kind: str
    reason: str
    event_time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., kind: _Optional[str] = ..., reason: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
