"""The types that a `feature_repo/` fills in to state its problem.

A feature repository is a folder of plain modules, also read by `feast apply`:

| module | what it holds | read by |
|---|---|---|
| `events.py` | `EVENT_TYPES`: the event types, their schema and expectations | ingestion, features |
| `label.py` | `LABEL`: which events tell the outcome | features, monitoring |
| `recipe.py` | `RECIPE`: what is predicted, when, and how the model is made | features, training, monitoring |
| `entities.py`, `data_sources.py`, `features.py`, `feature_services.py` | Feast's own definitions | features |

None of the first three may import Feast, so that a service that needs only them stays light.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from services.chassis.errors import Invalid

T = TypeVar("T")

_TYPE_NAME = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$")


class Payload(BaseModel):
    """Base of an event's payload: fields with types, ranges and sets; computed fields become columns too.

    Unknown fields are refused, values are not coerced from other JSON types, numbers are finite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class EventType:
    """One kind of event that upstream sends.

    `name` is the CloudEvents `type`; `key` the payload field that keys its topic.
    """

    name: str
    payload: type[Payload]
    key: str

    def __post_init__(self) -> None:
        if not _TYPE_NAME.match(self.name):
            raise Invalid(f"event type {self.name!r}: expected lower_snake words joined by dots")
        if self.key not in self.columns:
            raise Invalid(f"event type {self.name!r}: key {self.key!r} is not a field of its payload")

    @property
    def columns(self) -> tuple[str, ...]:
        """The payload's columns in the lake: declared fields, then computed ones."""
        return (*self.payload.model_fields, *self.payload.model_computed_fields)


@dataclass(frozen=True, slots=True)
class Label:
    """How an outcome becomes known.

    `outcomes` maps an event type to the numeric or boolean payload column that is the label (0 or 1), or to None if
    the event tells that there will never be one (joined, but void). A prediction without any of these events is
    expired once `horizon` has passed since its as-of moment.
    """

    entity_id: str
    outcomes: Mapping[str, str | None]
    horizon: timedelta


@dataclass(frozen=True, slots=True)
class Spine:
    """The moments at which a prediction is asked for: `lead` before `time_field` of each `event_type`.

    `time_field` is a payload column holding an RFC 3339 instant (str) in UTC.
    """

    event_type: str
    time_field: str
    lead: timedelta


@dataclass(frozen=True, slots=True)
class Gate:
    """What a trained model must reach on the hold-out before it may become a challenger.

    `min_auc` is absolute. Against the champion on the same rows: log loss at most `max_log_loss_increase` higher
    (negative: it must be better by that much).
    """

    min_auc: float
    max_log_loss_increase: float


@dataclass(frozen=True, slots=True)
class Retrain:
    """When monitoring asks for a new model, all in event time.

    `psi_threshold` is on one feature, `drifted_features` how many must pass it (share, 0..1);
    `log_loss_increase` is against the hold-out at training (nats).
    """

    psi_threshold: float
    drifted_features: float
    log_loss_increase: float
    min_labels: int
    window: timedelta
    cool_down: timedelta
    history: timedelta
    """How far back a retrain's rows reach."""


@dataclass(frozen=True, slots=True)
class Canary:
    """The steps of a release: shares of traffic, and what each needs before the next."""

    steps: tuple[float, ...] = (0.05, 0.25, 0.5, 1.0)
    min_labels: int = 300
    """Joined labels of the challenger at this step."""
    hold: timedelta = timedelta(days=2)
    """Event time at each step, at the least."""
    max_log_loss_increase: float = 0.02
    """Challenger worse than champion by more than this, beyond twice the standard error: rolled back."""
    max_error_rate: float = 0.01


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """How a model is made and judged. `search` lists LightGBM parameters and the values to try for each."""

    name: str
    feature_service: str
    spine: Spine
    label: Label
    gate: Gate
    retrain: Retrain
    canary: Canary = field(default_factory=Canary)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    trials: int = 6
    valid_share: float = 0.15
    holdout_share: float = 0.15


def load_event_types(feature_repo: Path) -> dict[str, EventType]:
    """The event types of a feature repository by name. Raises Invalid if there is none or two share a name."""
    declared: Sequence[EventType] = _attribute(feature_repo, "events", "EVENT_TYPES")
    by_name = {event_type.name: event_type for event_type in declared}
    if not by_name or len(by_name) != len(declared):
        raise Invalid(f"{feature_repo}/events.py: EVENT_TYPES must hold at least one type, each name once")
    return by_name


def load_label(feature_repo: Path) -> Label:
    """The label of a feature repository."""
    label: Label = _attribute(feature_repo, "label", "LABEL")
    return label


def load_recipe(feature_repo: Path) -> ModelRecipe:
    """The model recipe of a feature repository."""
    recipe: ModelRecipe = _attribute(feature_repo, "recipe", "RECIPE")
    return recipe


def load_module(feature_repo: Path, name: str) -> ModuleType:
    """`feature_repo/name.py`, whose siblings it may import as top-level modules (as Feast does).

    Siblings of another feature repository that were imported before make way. Raises Invalid if there is no such file.
    """
    path = (feature_repo / f"{name}.py").resolve()
    if not path.is_file():
        raise Invalid(f"{path} does not exist; SLIPWAY_FEATURE_REPO must name a folder that states a problem")
    _make_way(path.parent)
    return importlib.import_module(name)


def _make_way(folder: Path) -> None:
    """Top-level imports now find the modules of `folder`, and no others of the same names."""
    if sys.path[0] != str(folder):
        sys.path.insert(0, str(folder))
    for path in folder.glob("*.py"):
        loaded = sys.modules.get(path.stem)
        if loaded is not None and getattr(loaded, "__file__", None) != str(path):
            del sys.modules[path.stem]


def _attribute(feature_repo: Path, module: str, name: str) -> Any:
    loaded = load_module(feature_repo, module)
    if not hasattr(loaded, name):
        raise Invalid(f"{loaded.__file__}: {name} is not defined")
    return getattr(loaded, name)
