"""The Kafka edge of `stream`: batches of events into the online store, and the watermark after them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing

from kafka import KafkaConsumer
from kafka.structs import OffsetAndMetadata

from services.chassis.errors import Conflict, Unavailable
from services.chassis.kafka import Record, consume
from services.chassis.kafka_session import PART, BrokerCheck, lag, open_topics, whole_consumer
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.features import metrics
from services.features.definitions import Definitions, WindowedView
from services.features.events import parse, partition_name
from services.features.progress import Position, Progress, fingerprints
from services.features.redis_store import StreamStore
from services.features.seen_ids import SeenIds
from services.features.settings import StreamSettings
from services.features.state import BEFORE_ALL, Outcome
from services.features.view_updates import Touched, ViewUpdates
from services.topics import events_topic

GROUP = "features-stream"
STORE = "redis"
_CHECK_EVERY_S = 2.0


class LostGround(Conflict):
    """The online store is not where we left it."""


class Streaming:
    """One session with the broker and the online store: goes on from where the store says that it is."""

    def __init__(self, settings: StreamSettings, definitions: Definitions, lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._project = definitions.project
        self._views = list(definitions.views.values())
        self._types = {events_topic(view.event_type).name: view.event_type for view in self._views}
        self._lifecycle = lifecycle

    def run(self) -> None:
        """Until the process stops. Raises KafkaError, Unavailable or LostGround: then start again."""
        settings = self._settings
        with closing(StreamStore(settings.redis, self._project)) as store:
            progress = self._progress(store)
            open_topics(settings.kafka, self._types)
            with closing(whole_consumer(settings.kafka, GROUP, sorted(self._types))) as consumer:
                batches = Batches(
                    consumer=consumer,
                    store=store,
                    updates=[ViewUpdates(self._project, view) for view in self._views],
                    seen=SeenIds(store, self._views),
                    types=self._types,
                    history_us=settings.history_us,
                    progress=progress,
                    lifecycle=self._lifecycle,
                )
                batches.begin()
                self._lifecycle.ready(PART)
                consume(consumer, batches.act, self._lifecycle.stopping, commit=batches.commit, idle=batches.idle)

    def _progress(self, store: StreamStore) -> Progress:
        try:
            if store.may_evict():
                get_logger().error("online_store_may_evict", why="maxmemory with a policy that is not noeviction")
            return resumed(store, self._views)
        except Unavailable as error:
            self._lifecycle.not_ready(STORE, str(error))
            raise


def resumed(store: StreamStore, views: Sequence[WindowedView]) -> Progress:
    """Where the store is with these views: at the beginning, if it says nothing or does not hold them all."""
    present = fingerprints(views)
    text = store.progress()
    if text is not None:
        progress = Progress.decode(text)
        changed = progress.changed(present)
        if not changed:
            return progress.of(present)
        get_logger().warning("definitions_changed", views=changed, then="rebuilt from the beginning of the topics")
    # Without progress, too: there may be ids, of events that are to come again.
    store.start_over()
    return Progress(present, {}, None)


class Batches:
    """What happens to a batch.

    1. Read the states of all entities that its events touch, and see that the store is where we left it.
    2. Take the events in; what became available by the mark moves into tiles.
    3. Write each entity's states and values for Feast, one HSET for each entity.
    4. Write the ids of its events.
    5. Write the progress: positions of all partitions and the watermark, in one MSET.
    6. Commit the offsets, for whoever watches the group.

    A crash before 5 has the batch read again from the positions before; its events are told by their ids, which the
    states still hold: the mark lies a whole history behind the watermark that was published before the batch.
    """

    def __init__(
        self,
        *,
        consumer: KafkaConsumer,
        store: StreamStore,
        updates: Sequence[ViewUpdates],
        seen: SeenIds,
        types: Mapping[str, str],
        history_us: int,
        progress: Progress,
        lifecycle: Lifecycle,
    ) -> None:
        self._consumer = consumer
        self._store = store
        self._updates = updates
        self._seen = seen
        self._types = types
        self._history_us = history_us
        self._progress = progress
        self._written = store.progress()
        self._lifecycle = lifecycle
        self._broker = BrokerCheck(consumer)
        self._checked_at = time.monotonic()
        self._partitions = {partition_name(*each): each for each in consumer.assignment()}
        self._committed: dict[str, int] = {}

    def begin(self) -> None:
        """Goes to where the store is. What was committed beyond that was lost by the store, and is done again."""
        ends = self._consumer.end_offsets(list(self._partitions.values()))
        for name, partition in self._partitions.items():
            # A topic that was made anew ends before what was committed of the old one.
            self._committed[name] = min(self._consumer.committed(partition) or 0, ends[partition])
            offset = self._progress.at(name).offset
            if offset:
                self._consumer.seek(partition, offset)
            else:
                self._consumer.seek_to_beginning(partition)
        if behind := self._behind():
            get_logger().error("online_store_behind_offsets", records=behind, then="worked in again from Kafka")
        self._show(behind)

    def act(self, batch: list[Record]) -> None:
        """Steps 1 to 5. Raises Unavailable if the store does not answer, LostGround if it is somewhere else."""
        try:
            with metrics.BATCH.time():
                self._act(batch)
        except Unavailable as error:
            self._lifecycle.not_ready(STORE, str(error))
            raise
        self._show(self._behind())

    def commit(self) -> None:
        """Step 6. Never back to before what was committed: that says how far a store that lost data was."""
        offsets = {
            partition: max(self._progress.at(name).offset, self._committed[name])
            for name, partition in self._partitions.items()
        }
        self._consumer.commit({each: OffsetAndMetadata(offset, "", -1) for each, offset in offsets.items()})

    def idle(self) -> None:
        """Raises KafkaError, Unavailable or LostGround if a part is gone or lost something while nothing came."""
        self._broker.ask()
        metrics.LAG.set(lag(self._consumer))
        if time.monotonic() - self._checked_at > _CHECK_EVERY_S:
            self._check(self._store_progress())
            self._checked_at = time.monotonic()

    def _act(self, records: list[Record]) -> None:
        batch = parse(records, self._types)
        touched = [
            (each, each.touched(batch.events[each.view.event_type]))
            for each in self._updates
            if each.view.event_type in batch.events
        ]
        before, written = self._store.read(_state_fields(touched))
        self._check(written)
        mark_us = self._mark_us()
        hashes, outcomes = self._updated(touched, before, mark_us)
        if hashes:
            self._store.write(hashes)
        self._seen.add(batch.events, mark_us)
        self._advance(batch.watermarks_us)
        self._seen.forget(mark_us)
        metrics.ENTITIES.inc(len(hashes))
        _count(touched, outcomes)

    def _updated(
        self, touched: list[tuple[ViewUpdates, Touched]], before: dict[bytes, list[bytes | None]], mark_us: int
    ) -> tuple[dict[bytes, list[bytes]], list[Outcome]]:
        """What to write in each hash. `before` has the states in the order of the views, and is used up."""
        hashes: defaultdict[bytes, list[bytes]] = defaultdict(list)
        outcomes = []
        for updates, each in touched:
            blobs = [before[key].pop(0) for key in each.keys]
            fields, outcome = updates.updated(each, blobs, mark_us, self._seen.of(updates.view.event_type))
            outcomes.append(outcome)
            for key, items in zip(each.keys, fields, strict=True):
                hashes[key] += items
        return hashes, outcomes

    def _mark_us(self) -> int:
        watermark_us = self._progress.watermark_us
        return BEFORE_ALL if watermark_us is None else watermark_us - self._history_us

    def _advance(self, watermarks_us: Mapping[str, int]) -> None:
        positions = {
            name: Position(
                self._consumer.position(partition), watermarks_us.get(name, self._progress.at(name).watermark_us)
            )
            for name, partition in self._partitions.items()
        }
        progress = self._progress.after(positions)
        written = progress.encode()
        self._store.advance(written, progress.watermark_us)
        self._progress, self._written = progress, written

    def _store_progress(self) -> bytes | None:
        try:
            return self._store.progress()
        except Unavailable as error:
            self._lifecycle.not_ready(STORE, str(error))
            raise

    def _check(self, written: bytes | None) -> None:
        if written != self._written:
            self._lifecycle.not_ready(STORE, "it lost data, or another process writes to it; looking where it is")
            raise LostGround("the online store is not where this process left it: data lost, or another process writes")

    def _behind(self) -> int:
        """Records that the store had worked in once and has lost."""
        return sum(max(offset - self._progress.at(name).offset, 0) for name, offset in self._committed.items())

    def _show(self, behind: int) -> None:
        if behind:
            self._lifecycle.not_ready(
                STORE, f"lost data or changed definitions: {behind} records of Kafka are worked in again"
            )
        else:
            self._lifecycle.ready(STORE)
        metrics.LAG.set(lag(self._consumer))
        if self._progress.watermark_us is not None:
            metrics.WATERMARK.set(self._progress.watermark_us / 1e6)


def _state_fields(touched: Sequence[tuple[ViewUpdates, Touched]]) -> dict[bytes, list[bytes]]:
    fields: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for updates, each in touched:
        for key in each.keys:
            fields[key].append(updates.state_field)
    return fields


def _count(touched: Sequence[tuple[ViewUpdates, Touched]], outcomes: Sequence[Outcome]) -> None:
    for (updates, each), outcome in zip(touched, outcomes, strict=True):
        counts = {
            "counted": outcome.counted,
            "duplicate": outcome.duplicates,
            "too_late": outcome.too_late,
            "no_key": each.no_key,
        }
        for name, count in counts.items():
            if count:
                metrics.EVENTS.labels(updates.view.name, name).inc(count)
        if outcome.too_late:
            get_logger().warning("events_too_late", view=updates.view.name, events=outcome.too_late)
