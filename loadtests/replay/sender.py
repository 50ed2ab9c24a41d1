"""The sending side: where it is in the sequence, what it sent, and how a resume finds its place. Blocking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from loadtests.replay.mess import Kind, Mess, Sending
from loadtests.replay.position import Cursor, Position
from loadtests.replay.questions import Asker, Question
from loadtests.replay.sequence import sequence
from loadtests.replay.topic import UpstreamTopic
from loadtests.upstream import GRID, Source, on_grid
from services.chassis.errors import Invalid

_MOST = 2000
"""Records sent without looking up."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How many records, and the questions that arose from them."""

    records: int
    questions: Sequence[Question]


class Sender:
    """Goes on from `position`: first `resume`, then `advance` again and again, `flush` before each new position.

    `cursor` lies behind the last record that was sent, `reached` is a moment until which all was sent, `offset` is as
    of the last flush.
    """

    def __init__(
        self, source: Source, mess: Mess, asker: Asker, topic: UpstreamTopic, *, begins: datetime, position: Position
    ) -> None:
        self._source = source
        self._mess = mess
        self._asker = asker
        self._topic = topic
        self._begins = begins
        self._resumed: list[Sending] | None = []
        self._next: Sending | None = None
        self._rest: Iterator[Sending] = iter(())
        self.reached = position.cursor.after
        self._position = position
        self.cursor = position.cursor
        self.offset = position.offset
        self.totals = position.totals

    def resume(self) -> list[Question]:
        """Finds the place after what the topic holds already, which is counted as sent; the questions that are open.

        Raises Invalid if the topic holds less than the position says.
        """
        end = self._topic.end()
        if end < self.offset:
            raise Invalid(
                f"the topic ends at offset {end}, the position file says that {self.offset} were there: it belongs to "
                "another broker; remove the file to begin anew"
            )
        questions = self._enter()
        there = list(self._topic.already_there(self.offset, end, self._expected()))
        self._rest = self._expected()
        for sending in islice(self._rest, len(there)):
            questions += self._took_its_turn(sending)
        self.offset = end
        return questions

    def _enter(self) -> list[Question]:
        """The questions that the position says are open, from the events that raised them."""
        cursor, known = self._position.cursor, self._position.open
        if known is None:
            return []
        after = min(cursor.after, on_grid(known.questions_from) - GRID)
        before_cursor, left = [], cursor.sent
        for sending in sequence(self._source, self._mess, begins=self._begins, after=after):
            if sending.due > cursor.after:
                left -= 1
                if left < 0:
                    break
            before_cursor.append(sending)
        questions = (self._asker.question(sending) for sending in before_cursor)
        return [question for question in questions if question is not None and known.covers(question)]

    def _expected(self) -> Iterator[Sending]:
        cursor = self._position.cursor
        rest = sequence(self._source, self._mess, begins=self._begins, after=cursor.after)
        return islice(rest, cursor.sent, None)

    def advance(self, horizon: datetime) -> Sent:
        """Sends what has its turn until `horizon`, some thousand records at most."""
        batch = list(islice(self._until(horizon), _MOST))
        self._topic.send(batch)
        if self._resumed is not None:
            self._resumed += batch
        questions = [question for sending in batch for question in self._took_its_turn(sending)]
        if len(batch) < _MOST:
            self.reached = max(self.reached, horizon)
        return Sent(len(batch), questions)

    def _until(self, horizon: datetime) -> Iterator[Sending]:
        while True:
            if self._next is None:
                self._next = next(self._rest)
            if self._next.due > horizon:
                return
            sending, self._next = self._next, None
            yield sending

    def _took_its_turn(self, sending: Sending) -> list[Question]:
        self.totals.count_sent(sending)
        if sending.kind is Kind.HEARTBEAT:
            self.reached = max(self.reached, sending.due)
            self.cursor = Cursor(sending.due)
        else:
            self.cursor = Cursor(self.cursor.after, self.cursor.sent + 1)
        question = self._asker.question(sending)
        return [] if question is None else [question]

    def flush(self) -> None:
        """What was sent is durable and the offset right. Raises Unavailable if Kafka did not take it."""
        offsets = self._topic.flush()
        if offsets is None:
            return
        first, end = offsets
        if self._resumed is not None:
            self._count_what_came_late(first)
        self.offset = end

    def _count_what_came_late(self, first: int) -> None:
        """Records of a killed replay that reached the broker only after we had looked: we have sent them again."""
        assert self._resumed is not None
        again = self._topic.already_there(self.offset, first, iter(self._resumed))
        self.totals.sent_again.update(sending.kind for sending in again)
        self._resumed = None
