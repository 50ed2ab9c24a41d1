"""The accounts: two independent counts of one thing each, and whether they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from loadtests.books.joins import JoinCounts
from loadtests.books.lake import TableCount
from services.contracts.monitoring.v1.monitoring_pb2 import GetCountsResponse


@dataclass(frozen=True, slots=True)
class Account:
    """`what` was counted on the left and on the right, each by the source that `sources` names in that order."""

    what: str
    sources: tuple[str, str]
    left: int
    right: int

    @property
    def balanced(self) -> bool:
        """The two counts agree."""
        return self.left == self.right


@dataclass(frozen=True, slots=True)
class Sent:
    """What upstream says that it sent: records of events (bad ones and repeats too) and of heartbeats."""

    events: int
    heartbeats: int
    duplicates: int
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """How many records must be refused, by reason."""


@dataclass(frozen=True, slots=True)
class EventCounts:
    """What became of them: the records on upstream's topic, the lake by event type, its duplicates, dead letters."""

    upstream_records: int
    lake: Mapping[str, TableCount]
    duplicates: int
    dead_letters: Counter[str]

    @property
    def stored(self) -> int:
        """Different events in the lake."""
        return sum(count.distinct for count in self.lake.values())


def event_accounts(sent: Sent, counts: EventCounts) -> Iterator[Account]:
    """Each upstream record is a row of the lake, a dead letter or a duplicate, and nothing is there twice."""
    dead = counts.dead_letters.total()
    rows = sum(count.rows for count in counts.lake.values())
    yield Account(
        "upstream records", ("sent", "Kafka's offsets"), sent.events + sent.heartbeats, counts.upstream_records
    )
    yield Account("rows of the lake", ("rows", "different event ids"), rows, counts.stored)
    yield Account(
        "events", ("sent", "lake + dead letters + duplicates"), sent.events, counts.stored + dead + counts.duplicates
    )
    yield Account("duplicates", ("sent twice", "lake"), sent.duplicates, counts.duplicates)
    for reason in sorted({*sent.dead_letters, *counts.dead_letters}):
        left, right = sent.dead_letters.get(reason, 0), counts.dead_letters[reason]
        yield Account(f"dead letters: {reason}", ("sent bad", "dead-letter topic"), left, right)


def prediction_accounts(answered: int, logged: JoinCounts, told: GetCountsResponse) -> Iterator[Account]:
    """Each answered prediction is recorded once, and joined, void, pending or expired, as an outside join finds it."""
    states = told.joined + told.void + told.pending + told.expired
    yield Account("predictions", ("answered to the client", "exposure log"), answered, logged.predictions)
    yield Account("predictions recorded", ("exposure log", "monitoring"), logged.predictions, told.recorded)
    yield Account("predictions by state", ("recorded", "joined + void + pending + expired"), told.recorded, states)
    yield Account("repeats", ("exposure log", "monitoring"), logged.repeats, told.duplicate_predictions)
    yield Account("joined", ("outside join", "monitoring"), logged.joined, told.joined)
    yield Account("void", ("outside join", "monitoring"), logged.void, told.void)
    yield Account("without outcome", ("outside join", "monitoring"), logged.open, told.pending + told.expired)
