"""The asking side: follows the features' watermark, asks what is due, keeps the books of what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Protocol

from loadtests.replay.answers import AnswerFile
from loadtests.replay.client import Answer, Failed
from loadtests.replay.questions import Open, OpenQuestions, Question
from loadtests.replay.totals import Totals

_LOOK_EVERY_S = 0.02


class Client(Protocol):
    """Who answers."""

    retried: int

    async def ask(self, question: Question) -> Answer | Failed:
        """The answer, or what came instead."""


class Asking:
    """Open questions and the workers that ask them. Use it in one event loop.

    A question is asked once the watermark lies *after* its moment: at the watermark itself more may still become known.
    """

    def __init__(
        self,
        *,
        client: Client,
        watermark: Callable[[], Awaitable[datetime | None]],
        totals: Totals,
        answers: AnswerFile | None,
    ) -> None:
        self._client = client
        self._watermark = watermark
        self._totals = totals
        self._answers = answers
        self._questions = OpenQuestions()
        self._due: asyncio.Queue[Question] = asyncio.Queue()
        self.watermark: datetime | None = None
        self.predict = True

    def add(self, questions: Iterable[Question]) -> None:
        for question in questions:
            self._questions.add(question)

    def skip_before(self, moment: datetime) -> None:
        """Questions of earlier moments are not asked."""
        self._totals.skipped += self._questions.skip_before(moment)

    @property
    def oldest(self) -> datetime | None:
        """The earliest moment with an open question."""
        return self._questions.oldest

    @property
    def count(self) -> int:
        """Open questions."""
        return len(self._questions)

    def snapshot(self) -> tuple[Open | None, int | None]:
        """What is open, and the length of the file of answers with all that is settled; None if no file is written."""
        length = None if self._answers is None else self._answers.sync()
        return self._questions.snapshot(), length

    async def follow(self) -> None:
        """Until cancelled: looks where the features are, and hands out what is due."""
        while True:
            found = await self._watermark()
            if found is not None:
                self.watermark = found
            if self.predict and self.watermark is not None:
                for question in self._questions.take_due(self.watermark):
                    self._due.put_nowait(question)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def work(self) -> None:
        """Until cancelled: asks, one question at a time. What is cancelled stays open."""
        while True:
            question = await self._due.get()
            try:
                outcome = await self._client.ask(question)
            except asyncio.CancelledError:
                self._due.put_nowait(question)
                raise
            self._questions.settle(question)
            self._count(question, outcome)

    def _count(self, question: Question, outcome: Answer | Failed) -> None:
        totals = self._totals
        totals.retried, self._client.retried = totals.retried + self._client.retried, 0
        if isinstance(outcome, Failed):
            totals.failed[outcome.status] += 1
            return
        totals.answered[f"{outcome.version}/{outcome.variant}"] += 1
        totals.missing_features += outcome.missing_features
        totals.stale_features += outcome.stale_features
        totals.latencies.observe(outcome.latency_s)
        if self._answers is not None:
            self._answers.add(question, outcome)
