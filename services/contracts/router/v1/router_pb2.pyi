import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRATEGY_UNSPECIFIED: _ClassVar[Strategy]
    STRATEGY_CANARY: _ClassVar[Strategy]
    STRATEGY_BLUE_GREEN: _ClassVar[Strategy]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_PENDING: _ClassVar[Phase]
    PHASE_RUNNING: _ClassVar[Phase]
    PHASE_PAUSED: _ClassVar[Phase]
    PHASE_SUCCESSFUL: _ClassVar[Phase]
    PHASE_FAILED: _ClassVar[Phase]
    PHASE_ERROR: _ClassVar[Phase]
    PHASE_INCONCLUSIVE: _ClassVar[Phase]
    PHASE_ABORTED: _ClassVar[Phase]
STRATEGY_UNSPECIFIED: Strategy
STRATEGY_CANARY: Strategy
STRATEGY_BLUE_GREEN: Strategy
PHASE_UNSPECIFIED: Phase
PHASE_PENDING: Phase
PHASE_RUNNING: Phase
PHASE_PAUSED: Phase
PHASE_SUCCESSFUL: Phase
PHASE_FAILED: Phase
PHASE_ERROR: Phase
PHASE_INCONCLUSIVE: Phase
PHASE_ABORTED: Phase

class Release(_message.Message):
    __slots__ = ("release_id", "model", "champion_version", "challenger_version", "strategy", "phase", "challenger_weight", "waiting_for", "started_by", "reason", "started_at", "ended_at", "transitions")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_VERSION_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    STARTED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    model: str
    champion_version: str
    challenger_version: str
    strategy: Strategy
    phase: Phase
    challenger_weight: int
    waiting_for: str
    started_by: str
    reason: str
    started_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    transitions: _containers.RepeatedCompositeFieldContainer[Transition]
    def __init__(self, release_id: _Optional[str] = ..., model: _Optional[str] = ..., champion_version: _Optional[str] = ..., challenger_version: _Optional[str] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., phase: _Optional[_Union[Phase, str]] = ..., challenger_weight: _Optional[int] = ..., waiting_for: _Optional[str] = ..., started_by: _Optional[str] = ..., reason: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., transitions: _Optional[_Iterable[_Union[Transition, _Mapping]]] = ...) -> None: ...

class Transition(_message.Message):
    __slots__ = ("processed_at", "event_time", "phase", "challenger_weight", "actor", "why", "evidence_json")
    PROCESSED_AT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_JSON_FIELD_NUMBER: _ClassVar[int]
    processed_at: _timestamp_pb2.Timestamp
    event_time: _timestamp_pb2.Timestamp
    phase: Phase
    challenger_weight: int
    actor: str
    why: str
    evidence_json: str
    def __init__(self, processed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., phase: _Optional[_Union[Phase, str]] = ..., challenger_weight: _Optional[int] = ..., actor: _Optional[str] = ..., why: _Optional[str] = ..., evidence_json: _Optional[str] = ...) -> None: ...

class ReleaseRecord(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class StartReleaseRequest(_message.Message):
    __slots__ = ("model", "version", "strategy", "actor", "reason")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    strategy: Strategy
    actor: str
    reason: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., strategy: _Optional[_Union[Strategy, str]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class StartReleaseResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class GetReleaseRequest(_message.Message):
    __slots__ = ("release_id",)
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    def __init__(self, release_id: _Optional[str] = ...) -> None: ...

class GetReleaseResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class ListReleasesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListReleasesResponse(_message.Message):
    __slots__ = ("releases",)
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    releases: _containers.RepeatedCompositeFieldContainer[Release]
    def __init__(self, releases: _Optional[_Iterable[_Union[Release, _Mapping]]] = ...) -> None: ...

class PromoteReleaseRequest(_message.Message):
    __slots__ = ("release_id", "actor", "why")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    actor: str
    why: str
    def __init__(self, release_id: _Optional[str] = ..., actor: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class PromoteReleaseResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class AbortReleaseRequest(_message.Message):
    __slots__ = ("release_id", "actor", "why")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    actor: str
    why: str
    def __init__(self, release_id: _Optional[str] = ..., actor: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class AbortReleaseResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class PauseReleaseRequest(_message.Message):
    __slots__ = ("release_id", "actor", "why")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    actor: str
    why: str
    def __init__(self, release_id: _Optional[str] = ..., actor: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class PauseReleaseResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class ResumeReleaseRequest(_message.Message):
    __slots__ = ("release_id", "actor", "why")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    actor: str
    why: str
    def __init__(self, release_id: _Optional[str] = ..., actor: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ResumeReleaseResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class SetWeightRequest(_message.Message):
    __slots__ = ("release_id", "challenger_weight", "actor", "why")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    challenger_weight: int
    actor: str
    why: str
    def __init__(self, release_id: _Optional[str] = ..., challenger_weight: _Optional[int] = ..., actor: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class SetWeightResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class GetSplitRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetSplitResponse(_message.Message):
    __slots__ = ("model", "champion_version", "challenger_version", "challenger_weight", "release_id", "applied")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    model: str
    champion_version: str
    challenger_version: str
    challenger_weight: int
    release_id: str
    applied: bool
    def __init__(self, model: _Optional[str] = ..., champion_version: _Optional[str] = ..., challenger_version: _Optional[str] = ..., challenger_weight: _Optional[int] = ..., release_id: _Optional[str] = ..., applied: _Optional[bool] = ...) -> None: ...
