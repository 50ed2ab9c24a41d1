"""The online engine without Kafka and Redis: events in batches as the stream takes them, vectors as serving gives."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from services.features.definitions import Definitions
from services.features.entity_keys import EntityKeys, state_field
from services.features.events import Events, hash64
from services.features.reading import Answers, Asked, Reader
from services.features.redis_store import Reading
from services.features.rows import Rows
from services.features.seen_ids import SeenIds
from services.features.vectors import Vectors, VectorService
from services.features.view_updates import ViewUpdates
from tests.support.event_lake import TypedEvent

Fields = Mapping[bytes, Sequence[bytes]]


class MemoryStore:
    """In the place of Redis: the fields of each hash, and the watermark."""

    def __init__(self) -> None:
        self.hashes: defaultdict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        self.packed_ids: defaultdict[str, bytes] = defaultdict(bytes)
        self.watermark_us: int | None = None

    def id_names(self) -> list[str]:
        return list(self.packed_ids)

    def ids(self, name: str) -> bytes:
        return self.packed_ids[name]

    def add_ids(self, ids: Mapping[str, bytes]) -> None:
        for name, each in ids.items():
            self.packed_ids[name] += each

    def forget_ids(self, names: Sequence[str]) -> None:
        for name in names:
            del self.packed_ids[name]

    def values(self, fields: Fields) -> dict[bytes, list[bytes | None]]:
        return {key: [self.hashes[key].get(name) for name in names] for key, names in fields.items()}

    async def read(self, fields: Fields) -> Reading:
        return Reading(self.values(fields), self.watermark_us, self.watermark_us)


class OnlineFeatures:
    """Everything that the stream keeps, and what is read of it."""

    def __init__(self, definitions: Definitions, history_us: int) -> None:
        self._definitions = definitions
        self._history_us = history_us
        self._updates = [ViewUpdates(definitions.project, view) for view in definitions.views.values()]
        self.store = MemoryStore()
        self._seen = SeenIds(self.store, definitions.views.values())

    def take(self, batch: Iterable[TypedEvent], watermark_us: int) -> None:
        """One batch of the stream; every event available before the watermark has come with it or before it."""
        by_type = defaultdict(list)
        for each in batch:
            by_type[each.type].append(each.event)
        columns = {name: _events(events) for name, events in by_type.items()}
        mark_us = (self.store.watermark_us or 0) - self._history_us
        for update in self._updates:
            if update.view.event_type in columns:
                self._take(update, columns[update.view.event_type], mark_us)
        self._seen.add(columns, mark_us)
        self._seen.forget(mark_us)
        self.store.watermark_us = watermark_us

    def vectors(self, feature_service: str, rows: Rows) -> Vectors:
        plan = self._definitions.service(feature_service)
        service = VectorService(self._definitions.project, plan, self.store, self._history_us)
        return asyncio.run(service.vectors(rows))

    def view_answers(self, name: str, keys: Sequence[tuple[str | int, ...]], as_of_us: Sequence[int]) -> Answers:
        """Of one view, a row for each key and moment."""
        (update,) = (each for each in self._updates if each.view.name == name)
        entity_keys = EntityKeys(self._definitions.project, update.view.join_keys)
        blobs = [self.store.hashes[entity_keys.of(key)].get(state_field(name)) for key in keys]
        asked = Asked(blobs, np.arange(len(keys)), np.array(as_of_us))
        (answers,) = Reader([update.layout]).read([asked])
        return answers

    def _take(self, update: ViewUpdates, events: Events, mark_us: int) -> None:
        touched = update.touched(events)
        states = self.store.values({key: [update.state_field] for key in touched.keys})
        fields, _ = update.updated(
            touched, [states[key][0] for key in touched.keys], mark_us, self._seen.of(update.view.event_type)
        )
        for key, items in zip(touched.keys, fields, strict=True):
            self.store.hashes[key] |= dict(zip(items[::2], items[1::2], strict=True))


def _events(events: Sequence) -> Events:
    return Events(
        [each.event_time_us for each in events],
        [each.available_at_us for each in events],
        [hash64(each.event_id) for each in events],
        [dict(each.payload) for each in events],
    )
