"""The client's questions: which there are, which are open, and what a resume must know of them."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pydantic_core import from_json

from loadtests.replay.mess import FIRST, Sending
from services.chassis.clock import parse_rfc3339
from services.problem import EventType, ModelRecipe, Payload


class Question(NamedTuple):
    """A prediction to ask for. `as_of` is the moment it speaks for, `due` the turn of the event that told of it."""

    as_of: datetime
    entity_id: str
    due: datetime
    payload: Payload

    @property
    def id(self) -> str:
        """Of the prediction: one entity may be asked about for several moments, when its plan changes."""
        return f"{self.entity_id}/{self.as_of:%Y%m%dT%H%M%S}"


class Asker:
    """Derives the question from an event by the recipe's spine."""

    def __init__(self, recipe: ModelRecipe, event_types: Mapping[str, EventType]) -> None:
        self._spine = recipe.spine
        self._entity_id = recipe.label.entity_id
        self._payload = event_types[recipe.spine.event_type].payload

    def question(self, sending: Sending) -> Question | None:
        """None if the record raises none: another type, a duplicate, a bad one."""
        if sending.event.type != self._spine.event_type or sending.kind not in FIRST:
            return None
        payload = self._payload.model_validate(from_json(sending.event.value)["data"])
        as_of = parse_rfc3339(getattr(payload, self._spine.time_field)) - self._spine.lead
        return Question(as_of, str(getattr(payload, self._entity_id)), sending.due, payload)


@dataclass(frozen=True, slots=True)
class Open:
    """What is not over: questions with an earlier as-of than `settled_before` are, and those named in `settled`.

    `questions_from` is the earliest turn of an event whose question is open.
    """

    questions_from: datetime
    settled_before: datetime
    settled: frozenset[str]

    def covers(self, question: Question) -> bool:
        """It is still open."""
        return question.as_of >= self.settled_before and question.id not in self.settled


@dataclass(slots=True)
class OpenQuestions:
    """Open from `add` until `settle` or `skip_before`; `take_due` hands each out once."""

    _open: dict[str, Question] = field(default_factory=dict)
    _waiting: list[tuple[datetime, str]] = field(default_factory=list)
    _by_as_of: list[tuple[datetime, str]] = field(default_factory=list)
    _settled: list[tuple[datetime, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, question: Question) -> None:
        entry = (question.as_of, question.id)
        self._open[question.id] = question
        heapq.heappush(self._waiting, entry)
        heapq.heappush(self._by_as_of, entry)

    def take_due(self, watermark: datetime) -> list[Question]:
        """Those whose moment lies before the watermark, so that nothing more can be known by then; the oldest first."""
        due = []
        while self._waiting and self._waiting[0][0] < watermark:
            due.append(self._open[heapq.heappop(self._waiting)[1]])
        return due

    def settle(self, question: Question) -> None:
        del self._open[question.id]
        self._settled.append((question.as_of, question.id))

    def skip_before(self, moment: datetime) -> int:
        """Settles what was not handed out and speaks for an earlier moment; how many."""
        skipped = self.take_due(moment)
        for question in skipped:
            self.settle(question)
        return len(skipped)

    @property
    def oldest(self) -> datetime | None:
        """The earliest as-of that is open."""
        while self._by_as_of and self._by_as_of[0][1] not in self._open:
            heapq.heappop(self._by_as_of)
        return self._by_as_of[0][0] if self._by_as_of else None

    def snapshot(self) -> Open | None:
        """For the position; None if no question is open."""
        oldest = self.oldest
        if oldest is None:
            self._settled.clear()
            return None
        self._settled = [entry for entry in self._settled if entry[0] >= oldest]
        questions_from = min(question.due for question in self._open.values())
        return Open(questions_from, oldest, frozenset(settled for _, settled in self._settled))
