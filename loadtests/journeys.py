"""What the load generators ask and send: real questions and events of the problem, under names of their own.

Ids of asked entities and of published events begin with `load/`, so that no outcome ever joins a prediction. What is
published is real enough to be kept and counted: aim at a platform whose data you can throw away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count, cycle, islice
from pathlib import Path
from uuid import uuid4

from loadtests.replay.mess import Kind, Sending
from loadtests.replay.questions import Asker, Question
from loadtests.upstream import Source, Upstream
from services.problem import load_event_types, load_recipe


@dataclass(frozen=True, slots=True)
class Target:
    """What a journey must reach for the run to pass."""

    p95_ms: float
    error_rate: float

    def misses(self, *, requests: int, failures: int, p95_ms: float) -> list[str]:
        """Sentences about what was missed. A journey without requests measured nothing, which is a miss."""
        if requests == 0:
            return ["no request was made"]
        missed = []
        if failures / requests > self.error_rate:
            missed.append(f"{failures / requests:.2%} failed, at most {self.error_rate:.2%} may")
        if p95_ms > self.p95_ms or math.isnan(p95_ms):
            missed.append(f"p95 is {p95_ms:.0f} ms, at most {self.p95_ms:.0f} ms may be")
        return missed


def questions(source: Source, feature_repo: Path, how_many: int, as_of: datetime | None) -> list[Question]:
    """The first questions of the source about `load/…` entities, all as of one moment (None: each as of its own)."""
    recipe = load_recipe(feature_repo)
    asker = Asker(recipe, load_event_types(feature_repo))
    found = (asker.question(_sending(event)) for event in source.after(source.begins))
    return [
        _renamed(question, recipe.label.entity_id, as_of)
        for question in islice((each for each in found if each is not None), how_many)
    ]


def documents(source: Source, how_many: int) -> Iterator[bytes]:
    """CloudEvents for ever: the source's first events over and over, each time under ids of their own."""
    run, number = uuid4().hex, count()
    for event in cycle(list(islice(source.after(source.begins), how_many))):
        yield json.dumps(json.loads(event.value) | {"id": f"load/{run}/{next(number)}"}).encode()


def _renamed(question: Question, entity_field: str, as_of: datetime | None) -> Question:
    entity_id = f"load/{question.entity_id}"
    return Question(
        as_of or question.as_of,
        entity_id,
        question.due,
        question.payload.model_copy(update={entity_field: entity_id}),
    )


def _sending(event: Upstream) -> Sending:
    return Sending(event.recorded_at, event.event_id, Kind.EVENT, event)
