"""The online store: what is asked of Redis and in which order. A Redis that does not answer is Unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from services.chassis.errors import Unavailable
from services.features import metrics

_STREAM_TIMEOUT_S = 10.0
# A connection that Redis closed is found out by using it; then once more, on a new one.
_RETRIES = 1

Fields = Mapping[bytes, Sequence[bytes]]
"""Field names by key of the hash."""
Values = dict[bytes, list[bytes | None]]
"""Their values, in the order of the names."""


def watermark_key(project: str) -> str:
    """Where the watermark stands: microseconds, decimal."""
    return f"slipway:{project}:watermark"


def progress_key(project: str) -> str:
    """Where the stream's progress stands (`progress.py`)."""
    return f"slipway:{project}:progress"


def ids_key(project: str) -> str:
    """Where the names of the ids stand (`seen_ids.py`), a set; the ids themselves under `<this>:<name>`."""
    return f"slipway:{project}:ids"


class StreamStore:
    """The stream's side: blocks. One process writes."""

    def __init__(self, address: str, project: str) -> None:
        self._address = address
        self._watermark, self._progress, self._ids = watermark_key(project), progress_key(project), ids_key(project)
        # Its annotations know no bytes.
        self._redis: Any = redis.Redis(**_connection(address, _STREAM_TIMEOUT_S), retry=Retry(NoBackoff(), _RETRIES))

    def may_evict(self) -> bool:
        """Whether Redis throws keys away when it is full: an entity would lose its past."""
        with _answering(self._address):
            memory = self._redis.info("memory")
            return bool(memory["maxmemory"]) and memory["maxmemory_policy"] != "noeviction"

    def progress(self) -> bytes | None:
        """As `advance` left it; None if it never did."""
        with _answering(self._address):
            found: bytes | None = self._redis.get(self._progress)
            return found

    def read(self, fields: Fields) -> tuple[Values, bytes | None]:
        """The fields, and the progress that they belong to."""
        with _answering(self._address), self._redis.pipeline(transaction=False) as pipeline:
            for key, names in fields.items():
                pipeline.hmget(key, names)
            pipeline.get(self._progress)
            *found, progress = pipeline.execute()
            return dict(zip(fields, found, strict=True)), progress

    def write(self, hashes: Mapping[bytes, Sequence[bytes]]) -> None:
        """Sets fields: name, value, name, value … for each hash; those of one hash at once."""
        with _answering(self._address), self._redis.pipeline(transaction=False) as pipeline:
            for key, items in hashes.items():
                pipeline.hset(key, items=items)
            pipeline.execute()

    def advance(self, progress: bytes, watermark_us: int | None) -> None:
        """Both at once. Everything written before is what they speak of."""
        values: dict[str, bytes | int] = {self._progress: progress}
        if watermark_us is not None:
            values[self._watermark] = watermark_us
        with _answering(self._address):
            self._redis.mset(values)

    def id_names(self) -> list[str]:
        """All under which ids were added and are not forgotten."""
        with _answering(self._address):
            return [name.decode() for name in self._redis.smembers(self._ids)]

    def ids(self, name: str) -> bytes:
        """All that was added under a name, in order."""
        with _answering(self._address):
            return self._redis.get(f"{self._ids}:{name}") or b""

    def add_ids(self, ids: Mapping[str, bytes]) -> None:
        """Appends, by name. On a connection that breaks they may be added twice."""
        with _answering(self._address), self._redis.pipeline(transaction=False) as pipeline:
            # First, so that none is without a name.
            pipeline.sadd(self._ids, *ids)
            for name, each in ids.items():
                pipeline.append(f"{self._ids}:{name}", each)
            pipeline.execute()

    def forget_ids(self, names: Sequence[str]) -> None:
        """Removes all that was added under these names."""
        with _answering(self._address), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(*(f"{self._ids}:{name}" for name in names))
            pipeline.srem(self._ids, *names)
            pipeline.execute()

    def start_over(self) -> None:
        """Forgets progress, watermark and ids at once, not the states."""
        keys = [self._progress, self._watermark, self._ids, *(f"{self._ids}:{name}" for name in self.id_names())]
        with _answering(self._address):
            self._redis.delete(*keys)

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()


@dataclass(frozen=True, slots=True)
class Reading:
    """`watermark_before_us` was the watermark before the values were read, `watermark_after_us` after."""

    values: Values
    watermark_before_us: int | None
    watermark_after_us: int | None


class ServeStore:
    """The server's side: never blocks the event loop."""

    def __init__(self, address: str, project: str, timeout_s: float) -> None:
        self._address = address
        self._watermark = watermark_key(project)
        self._timeout_s = timeout_s
        # The client's own timeout costs more than the reading: it would set a timer for each reply.
        self._redis: Any = redis.asyncio.Redis(
            **_connection(address, None), retry=redis.asyncio.retry.Retry(NoBackoff(), _RETRIES)
        )

    async def watermark_us(self) -> int | None:
        """None before the first batch."""
        with _answering(self._address):
            async with asyncio.timeout(self._timeout_s):
                return _number(await self._redis.get(self._watermark))

    async def read(self, fields: Fields) -> Reading:
        """One round trip."""
        with _answering(self._address):
            async with asyncio.timeout(self._timeout_s), self._redis.pipeline(transaction=False) as pipeline:
                pipeline.get(self._watermark)
                for key, names in fields.items():
                    pipeline.hmget(key, names)
                pipeline.get(self._watermark)
                before, *found, after = await pipeline.execute()
        return Reading(dict(zip(fields, found, strict=True)), _number(before), _number(after))

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()


def _connection(address: str, timeout_s: float | None) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"host": host, "port": int(port), "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}


@contextmanager
def _answering(address: str) -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        metrics.REDIS_ERRORS.inc()
        raise Unavailable(f"Redis at {address} does not answer: {error!r}") from error


def _number(text: bytes | None) -> int | None:
    return None if text is None else int(text)
