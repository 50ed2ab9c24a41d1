"""What a feature repository defines, checked and in plain terms. Only this module reads Feast's objects.

Durations are microseconds. A feature's name is unique among all views that one on-demand view reads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

from feast import Entity, FeatureService, KafkaSource, RequestSource, StreamFeatureView
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import load_repo_config
from feast.transformation.python_transformation import PythonTransformation
from feast.types import FeastType, Float64, Int64, String, UnixTimestamp

from services.chassis.errors import Invalid, NotFound
from services.problem import EventType, load_event_types, load_module

AS_OF = "as_of"
EVENT_TIME = "event_time"

_MICROSECOND = timedelta(microseconds=1)


class Function(StrEnum):
    """What an aggregation computes over the column's non-null values in its window."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    LAST = "last"
    STDDEV = "stddev"
    COUNT_DISTINCT = "count_distinct"


class DataType(StrEnum):
    """Of a join key or a request field."""

    STRING = "string"
    INT64 = "int64"
    DOUBLE = "double"
    TIMESTAMP = "timestamp"


_JSON_KINDS = {DataType.STRING: "string", DataType.INT64: "integer"}
"""What the column of a join key of this type holds."""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One windowed feature: `function` of `column` over `window_us`, whose start moves in steps of `slide_us`.

    `column` is a payload column of the view's event type, or `event_time` (Unix seconds).
    """

    name: str
    column: str
    function: Function
    window_us: int
    slide_us: int
    integer: bool
    """Its Feast field is Int64, else Float64."""


@dataclass(frozen=True, slots=True)
class WindowedView:
    """A stream feature view. `join_keys` are payload columns of `event_type`, in the order of its entities."""

    name: str
    event_type: str
    join_keys: tuple[str, ...]
    aggregations: tuple[Aggregation, ...]
    ttl_us: int
    """A value whose newest event is older is stale; 0: never."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The payload columns that its aggregations read, each once."""
        return tuple(dict.fromkeys(each.column for each in self.aggregations if each.column != EVENT_TIME))


@dataclass(frozen=True, slots=True)
class Column:
    """A join key or request field of a feature service."""

    name: str
    data_type: DataType


@dataclass(frozen=True, slots=True)
class OnDemandView:
    """Features computed from request fields and windowed features.

    `function` takes a list for each of `request_fields` and `inputs` and returns one for each of `outputs`. Timestamps
    are aware datetimes, a feature without a value is None.
    """

    name: str
    request_fields: tuple[Column, ...]
    inputs: tuple[VectorFeature, ...]
    integers: frozenset[str]
    """Names (`<view>__<feature>`) of the inputs that are Int64."""
    outputs: tuple[str, ...]
    function: Callable[[dict[str, list[Any]]], dict[str, list[Any]]]


@dataclass(frozen=True, slots=True)
class VectorFeature:
    """One feature of a view."""

    view: str
    feature: str

    @property
    def name(self) -> str:
        """As the model sees it."""
        return f"{self.view}__{self.feature}"


@dataclass(frozen=True, slots=True)
class VectorPlan:
    """A feature service: its vector, in order, and everything that is needed to compute it.

    `request_fields` are what the client sends beside the join keys; `as_of` is not among them.
    """

    name: str
    features: tuple[VectorFeature, ...]
    windowed: tuple[WindowedView, ...]
    on_demand: tuple[OnDemandView, ...]
    join_keys: tuple[Column, ...]
    request_fields: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """What a request brings: join keys, then request fields."""
        return (*self.join_keys, *self.request_fields)


@dataclass(frozen=True, slots=True)
class Definitions:
    """All of a feature repository."""

    project: str
    views: Mapping[str, WindowedView]
    services: Mapping[str, VectorPlan]
    event_types: Mapping[str, EventType]

    def service(self, name: str) -> VectorPlan:
        """Raises NotFound."""
        if name not in self.services:
            raise NotFound(f"feature_service {name!r} does not exist; there are {', '.join(sorted(self.services))}")
        return self.services[name]


def load_definitions(feature_repo: Path) -> Definitions:
    """Reads a feature repository. Raises Invalid, naming the view and what is wrong with it."""
    with warnings.catch_warnings():
        # Feast calls stream and on-demand views experimental; they are what we use.
        warnings.simplefilter("ignore", RuntimeWarning)
        return _definitions(feature_repo)


def _definitions(feature_repo: Path) -> Definitions:
    config = load_repo_config(feature_repo, feature_repo / "feature_store.yaml")
    event_types = load_event_types(feature_repo)
    entities = _named(load_module(feature_repo, "entities"), Entity)
    module = load_module(feature_repo, "features")
    stream_views = _named(module, StreamFeatureView)
    views = {name: _windowed(view, entities, event_types) for name, view in stream_views.items()}
    on_demand = {name: _on_demand(view, views) for name, view in _named(module, OnDemandFeatureView).items()}
    services = _named(load_module(feature_repo, "feature_services"), FeatureService)
    keys = {entity.join_key: _key_type(entity) for entity in entities.values()}
    plans = {name: _plan(service, views, on_demand, keys) for name, service in services.items()}
    if not plans:
        raise Invalid(f"{feature_repo}/feature_services.py defines no FeatureService")
    return Definitions(config.project, views, plans, event_types)


def _named(module: ModuleType, kind: type[Any]) -> dict[str, Any]:
    found = [each for each in vars(module).values() if type(each) is kind]
    return {each.name: each for each in found}


def _windowed(
    view: StreamFeatureView, entities: Mapping[str, Entity], event_types: Mapping[str, EventType]
) -> WindowedView:
    where = f"stream feature view {view.name!r}"
    source = view.stream_source
    if not isinstance(source, KafkaSource) or source.name not in event_types:
        raise Invalid(f"{where}: its source must be a KafkaSource named after an event type of events.py")
    if view.feature_transformation is not None:
        raise Invalid(f"{where}: transformations are not run on the stream; make it a computed field of the event type")
    columns = event_types[source.name].columns
    join_keys = tuple(entities[name].join_key for name in view.entities)
    kinds = _json_kinds(event_types[source.name])
    for name, key in zip(view.entities, join_keys, strict=True):
        if key not in columns:
            raise Invalid(f"{where}: join key {key!r} is not a column of {source.name!r}; it has {', '.join(columns)}")
        held = kinds[key] - {"null"}
        if held != {_JSON_KINDS[_key_type(entities[name])]}:
            kind, holds = entities[name].value_type.name, " or ".join(sorted(held)) or "anything"
            raise Invalid(f"{where}: join key {key!r} is {kind}, the column of {source.name!r} holds {holds}")
    texts = {name for name, of in kinds.items() if "string" in of}
    types = {field.name: field.dtype for field in view.features}
    aggregations = tuple(_aggregations(where, view, columns, types))
    _check_aggregations(where, aggregations, types, texts)
    return WindowedView(view.name, source.name, join_keys, aggregations, _us(view.ttl))


def _aggregations(
    where: str, view: StreamFeatureView, columns: Sequence[str], types: Mapping[str, FeastType]
) -> Iterator[Aggregation]:
    for each in view.aggregations:
        name = each.resolved_name(each.time_window) if not each.name else each.name
        if each.function not in set(Function):
            raise Invalid(f"{where}: function {each.function!r} of {name!r} is none of {', '.join(Function)}")
        if each.column != EVENT_TIME and each.column not in columns:
            raise Invalid(f"{where}: column {each.column!r} of {name!r} is none of {', '.join((*columns, EVENT_TIME))}")
        window_us, slide_us = _us(each.time_window), _us(each.slide_interval)
        if window_us <= 0 or slide_us <= 0 or window_us % slide_us:
            raise Invalid(f"{where}: time_window of {name!r} must be a positive multiple of its slide_interval")
        if types.get(name) not in (Int64, Float64):
            raise Invalid(f"{where}: the schema must have {name!r} as Int64 or Float64")
        yield Aggregation(name, each.column, Function(each.function), window_us, slide_us, types[name] == Int64)


def _check_aggregations(
    where: str, aggregations: Sequence[Aggregation], types: Mapping[str, FeastType], texts: AbstractSet[str]
) -> None:
    names = [each.name for each in aggregations]
    if not names:
        raise Invalid(f"{where}: it has no aggregations")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Invalid(f"{where}: two aggregations are named {twice[0]!r}")
    if unfed := sorted(types.keys() - set(names)):
        raise Invalid(f"{where}: no aggregation computes {unfed[0]!r} of its schema")
    for each in aggregations:
        if each.column in texts and each.function not in (Function.COUNT, Function.COUNT_DISTINCT):
            raise Invalid(
                f"{where}: {each.name!r} is the {each.function} of {each.column!r}, which holds text; "
                f"that can be counted only ({Function.COUNT}, {Function.COUNT_DISTINCT})"
            )


def _json_kinds(event_type: EventType) -> dict[str, set[str]]:
    """What each column may hold, in JSON Schema's words."""
    schema = event_type.payload.model_json_schema(mode="serialization")
    definitions = schema.get("$defs", {})

    def types(of: Mapping[str, Any]) -> Iterator[str]:
        if "$ref" in of:
            yield from types(definitions[of["$ref"].rpartition("/")[2]])
        for option in of.get("anyOf", ()):
            yield from types(option)
        if "type" in of:
            yield of["type"]

    return {name: set(types(of)) for name, of in schema["properties"].items()}


def _on_demand(view: OnDemandFeatureView, views: Mapping[str, WindowedView]) -> OnDemandView:
    where = f"on-demand feature view {view.name!r}"
    transformation = view.feature_transformation
    if view.mode != "python" or not isinstance(transformation, PythonTransformation):
        raise Invalid(f'{where}: mode must be "python", whose function takes and returns lists')
    requests = view.source_request_sources.values()
    projections = view.source_feature_view_projections
    for name in projections:
        if name not in views:
            raise Invalid(f"{where}: its source {name!r} is not a stream feature view of features.py")
    inputs = tuple(VectorFeature(name, field.name) for name, each in projections.items() for field in each.features)
    request_fields = tuple(_request_field(where, field) for source in requests for field in _schema(source))
    names = [each.feature for each in inputs] + [each.name for each in request_fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Invalid(f"{where}: {', '.join(twice)} would be given to it twice; rename or select features")
    integers = frozenset(each.name for each in inputs if _is_integer(views[each.view], each.feature))
    outputs = tuple(field.name for field in view.features)
    return OnDemandView(view.name, request_fields, inputs, integers, outputs, transformation.udf)


def _is_integer(view: WindowedView, feature: str) -> bool:
    return any(each.integer for each in view.aggregations if each.name == feature)


def _schema(source: RequestSource) -> Sequence[Any]:
    fields: Sequence[Any] = source.schema
    return fields


def _request_field(where: str, field: Any) -> Column:
    types = {
        String: DataType.STRING,
        Int64: DataType.INT64,
        Float64: DataType.DOUBLE,
        UnixTimestamp: DataType.TIMESTAMP,
    }
    if field.dtype not in types:
        raise Invalid(f"{where}: request field {field.name!r} must be String, Int64, Float64 or UnixTimestamp")
    return Column(field.name, types[field.dtype])


def _key_type(entity: Entity) -> DataType:
    types = {"STRING": DataType.STRING, "INT64": DataType.INT64}
    kind = entity.value_type.name
    if kind not in types:
        raise Invalid(f"entity {entity.name!r}: value_type must be STRING or INT64, it is {kind}")
    return types[kind]


def _plan(
    service: FeatureService,
    views: Mapping[str, WindowedView],
    on_demand: Mapping[str, OnDemandView],
    keys: Mapping[str, DataType],
) -> VectorPlan:
    projections = service.feature_view_projections
    for each in projections:
        if each.name not in views and each.name not in on_demand:
            raise Invalid(f"feature service {service.name!r}: {each.name!r} is not a view of features.py")
        if each.name_alias or each.join_key_map:
            raise Invalid(f"feature service {service.name!r}: {each.name!r} is renamed, which is not supported")
    computed = tuple(on_demand[each.name] for each in projections if each.name in on_demand)
    read = [each.name for each in projections if each.name in views]
    read += [each.view for view in computed for each in view.inputs]
    windowed = tuple(views[name] for name in dict.fromkeys(read))
    join_keys = dict.fromkeys(key for view in windowed for key in view.join_keys)
    fields = {each.name: each for view in computed for each in view.request_fields}
    return VectorPlan(
        name=service.name,
        features=tuple(VectorFeature(each.name, field.name) for each in projections for field in each.features),
        windowed=windowed,
        on_demand=computed,
        join_keys=tuple(Column(key, keys[key]) for key in join_keys),
        request_fields=tuple(each for name, each in fields.items() if name != AS_OF and name not in join_keys),
    )


def _us(duration: timedelta | None) -> int:
    return 0 if duration is None else duration // _MICROSECOND
