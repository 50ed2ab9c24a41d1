"""The end of the demo: all that is known from outside, and what must hold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from deploy.local.ports import address
from deploy.local.processes import Platform
from loadtests.books.accounts import Account, EventCounts, Sent, event_accounts, prediction_accounts
from loadtests.books.joins import Joined, Score, join, score_of_all, scores, weeks
from loadtests.books.lake import count_duplicates, count_events, read_outcomes
from loadtests.books.topics import dead_letter_reasons, read_predictions, record_count
from loadtests.demo.platform import Chronicle, PlatformClient
from loadtests.replay import Totals
from loadtests.replay.mess import Kind
from services.chassis.clock import from_proto
from services.chassis.settings import KafkaSettings
from services.contracts.router.v1 import router_pb2
from services.problem import load_event_types, load_label
from services.topics import UPSTREAM

SETTLED_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Reckoning:
    """`weekly` and `monthly`: the score of each version by week and by month; `late` that of the champion as served
    over the last third of the year."""

    totals: Totals
    chronicle: Chronicle
    accounts: Sequence[Account]
    joined: Joined
    weekly: Sequence[Score]
    monthly: Sequence[Score]
    late: Score | None
    events: EventCounts


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that the demo must show."""

    what: str
    holds: bool
    found: str


def reckon(
    platform: Platform, client: PlatformClient, totals: Totals, reached: datetime, late: tuple[datetime, datetime]
) -> Reckoning:
    """Reads topics, lake and the services' answers, once they have settled; the replay has come to `reached`."""
    kafka = KafkaSettings(bootstrap_servers=address(platform.ports.kafka))
    event_types, label = load_event_types(platform.feature_repo), load_label(platform.feature_repo)
    answered = totals.answered.total()
    _settle(client, answered, reached)
    sent = Sent(
        events=totals.records - totals.kinds[Kind.HEARTBEAT] - totals.sent_again[Kind.HEARTBEAT],
        heartbeats=totals.kinds[Kind.HEARTBEAT] + totals.sent_again[Kind.HEARTBEAT],
        duplicates=totals.duplicates,
        dead_letters=totals.dead_letters,
    )
    events = _events_at_rest(platform, kafka, list(event_types), sent.events)
    joined = join(read_predictions(kafka), read_outcomes(platform.home.lake, label), label.horizon)
    accounts = [*event_accounts(sent, events), *prediction_accounts(answered, joined.counts, client.counts())]
    weekly = weeks(joined)
    return Reckoning(
        totals=totals,
        chronicle=client.chronicle(),
        accounts=accounts,
        joined=joined,
        weekly=list(scores(joined, weekly)),
        monthly=list(scores(joined, _months(weekly))),
        late=score_of_all(joined, *late, "champion"),
        events=events,
    )


def verdicts(reckoning: Reckoning, min_auc: float) -> Iterator[Verdict]:
    """What must hold for the demo to end well."""
    broken = [account.what for account in reckoning.accounts if not account.balanced]
    counted = reckoning.events.stored > 0 and reckoning.joined.counts.joined > 0
    found = ", ".join(broken) or (f"{len(reckoning.accounts)} accounts balance" if counted else "nothing was counted")
    yield Verdict("the counts add up", counted and not broken, found)
    failed, answered = reckoning.totals.failed.total(), reckoning.totals.answered.total()
    yield Verdict(
        "every question was answered", answered > 0 and not failed, f"{answered:,} answered, {failed:,} failed"
    )
    late = reckoning.late
    found = "no labels" if late is None else f"{late.auc:.4f} over {late.labels:,} labels"
    yield Verdict(
        f"champion's AUC, September to December, at least {min_auc}", bool(late and late.auc >= min_auc), found
    )
    retrained = _retrained_by_canary(reckoning.chronicle)
    yield Verdict(
        "a retrain that drift caused went out through a canary",
        bool(retrained),
        f"versions {', '.join(retrained)}" if retrained else "none",
    )


def _retrained_by_canary(chronicle: Chronicle) -> list[str]:
    triggered = {trigger.request_id for trigger in chronicle.triggers}
    versions = {run.model_version for run in chronicle.runs if run.request.request_id in triggered}
    return [
        release.challenger_version
        for release in chronicle.releases
        if release.challenger_version in versions
        and release.strategy == router_pb2.STRATEGY_CANARY
        and release.phase == router_pb2.PHASE_SUCCESSFUL
    ]


def _settle(client: PlatformClient, answered: int, reached: datetime) -> None:
    """Monitoring has read the last prediction and label, or will not within a minute: then the books show it."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while time.monotonic() < deadline:
        now = client.counts()
        if now.recorded >= answered and from_proto(now.watermark) >= reached:
            return
        time.sleep(_LOOK_EVERY_S)


def _events_at_rest(platform: Platform, kafka: KafkaSettings, event_types: list[str], sent: int) -> EventCounts:
    """The lake commits every few seconds; counts once all that was sent has arrived, or a minute has passed."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while True:
        found = EventCounts(
            upstream_records=record_count(kafka, UPSTREAM),
            lake=count_events(platform.home.lake, event_types),
            duplicates=count_duplicates(platform.home.lake),
            dead_letters=dead_letter_reasons(kafka),
        )
        arrived = found.stored + found.duplicates + found.dead_letters.total()
        if arrived >= sent or time.monotonic() > deadline:
            return found
        time.sleep(_LOOK_EVERY_S)


def _months(spans: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    if not spans:
        return []
    first, last = spans[0][0], spans[-1][1]
    starts = [datetime(first.year, first.month, 1, tzinfo=UTC)]
    while starts[-1] < last:
        starts.append((starts[-1] + timedelta(days=32)).replace(day=1))
    return list(pairwise(starts))
