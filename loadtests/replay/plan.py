"""What a driver of the replay says, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from loadtests.replay.totals import Totals
from loadtests.upstream import Source
from services.chassis.settings import KafkaSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is replayed, to whom, and how."""

    source: Source
    feature_repo: Path
    state: Path
    """The position file."""
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    features: str | None = "127.0.0.1:9104"
    """FeaturesService, whose watermark holds the replay back; None: nothing does, and no predictions are asked for."""
    inference: str = "127.0.0.1:8080"
    """Envoy, or an inference service itself."""
    begins: datetime | None = None
    """Events known by then are left out; raised to the grid. None: the source's first."""
    speed: float | None = None
    """Event time per real time; None: flat out."""
    mess_share: float = 0.0
    mess_seed: int = 0
    answers: Path | None = None
    """JSON lines of the answers; what is there of another replay is overwritten."""
    ahead: timedelta = timedelta(hours=12)
    """Event time that is sent beyond the features' watermark, at most, while predictions are asked for."""
    room: timedelta = timedelta(hours=18)
    """Event time that is sent beyond the oldest open question, at most. The features' history must be longer."""
    ahead_unasked: timedelta = timedelta(days=5)
    """Instead of `ahead` while no predictions are asked for."""
    in_flight: int = 64
    """Calls at the same time."""
    connections: int = 2
    patience_s: float = 60.0
    """How long a question is tried again while the service is unavailable."""
    position_every_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The replay as it is now. Event times; `waiting_for` is "" while it sends."""

    reached: datetime
    until: datetime
    watermark: datetime | None
    open_questions: int
    waiting_for: str
    totals: Totals


Pause = Callable[[], bool]
"""Asked a few times a second, from a thread: while it says True nothing is sent."""
Tell = Callable[[Progress], None]
