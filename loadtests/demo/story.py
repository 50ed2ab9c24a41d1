"""What is played: history, a first model, then the rest of the time with predictions, retraining and releases."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from loadtests.demo.platform import PlatformClient
from loadtests.replay import Progress, Replay, Totals
from loadtests.upstream import on_grid
from services.chassis.errors import Conflict, Unavailable
from services.contracts.training.v1 import training_pb2
from services.problem import ModelRecipe

DEMO = "demo"
_RUN_S, _RELEASE_S, _STANDSTILL_S = 300.0, 120.0, 300.0
# Every open prediction has expired by then.
_AFTERMATH = timedelta(hours=2)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Times:
    """Event times: the source's beginning and end, and when the first model is trained."""

    begins: datetime
    first_model: datetime
    ends: datetime


class Standstill:
    """Whether event time should stand still, asked again and again; not longer than `patience_s` at a stretch."""

    def __init__(self, going_on: Callable[[], str], patience_s: float) -> None:
        self._going_on = going_on
        self._patience_s = patience_s
        self._since_s: float | None = None

    def __call__(self) -> bool:
        """Raises Unavailable when it has stood still for too long, naming what it waits for."""
        waits_for, now_s = self._going_on(), time.monotonic()
        if not waits_for:
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s > self._patience_s:
            raise Unavailable(f"waited {self._patience_s:.0f} s for {waits_for}; `slipway status` tells more")
        return True


class Story:
    """One playing of a problem on a running platform; `say` hears of each scene, `tell` of the replay's progress."""

    def __init__(
        self,
        *,
        recipe: ModelRecipe,
        replay: Replay,
        platform: PlatformClient,
        times: Times,
        say: Say,
        tell: Callable[[Progress], None],
    ) -> None:
        self._recipe = recipe
        self._replay = replay
        self._platform = platform
        self._times = times
        self._say = say
        self._tell = tell
        self._standstill = Standstill(platform.going_on, _STANDSTILL_S)

    def play(self) -> Totals:
        """Goes on where an earlier playing stopped. Raises SlipwayError when the platform cannot go on."""
        if not self._platform.split().champion_version:
            self._history()
            self._first_model()
        self._serve()
        return self._aftermath()

    def _history(self) -> None:
        times = self._times
        self._say(f"History: {times.begins:%-d %B %Y} to {times.first_model:%-d %B}, as fast as it goes")
        self._replay.run(times.first_model, predict=False, tell=self._tell)

    def _first_model(self) -> None:
        times = self._times
        self._say("The first model")
        run_id = self._platform.train(self._recipe.name, times.begins, times.first_model, "the first model", DEMO)
        run = self._platform.wait_for_run(run_id, self._say_stage(), _RUN_S)
        if run.state != training_pb2.RUN_STATE_REGISTERED:
            raise Conflict(f"the first training run registered no version: {run.stage}: {run.detail}")
        self._platform.wait_for_champion(run.model_version, _RELEASE_S)
        self._say(f"Version {run.model_version} serves (AUC {run.metrics['auc']:.3f} on its hold-out)")

    def _serve(self) -> None:
        self._say(f"Serving until {self._times.ends:%-d %B %Y}; time stands still while a model is trained or loaded")
        self._replay.run(self._times.ends, pause=self._standstill, tell=self._tell)

    def _aftermath(self) -> Totals:
        """Silence, until the last label has come or can not come any more."""
        over = on_grid(self._times.ends + self._recipe.label.horizon + _AFTERMATH)
        return self._replay.run(over, pause=self._standstill, tell=self._tell)

    def _say_stage(self) -> Say:
        said: set[str] = set()

        def say(stage: str) -> None:
            if stage and stage not in said:
                said.add(stage)
                self._say(f"  {stage}")

        return say
