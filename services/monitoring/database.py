"""The SQL database: one writer at a time, readers beside it, everything of a batch in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from services.chassis.errors import Unavailable
from services.monitoring.schema import counters, metadata

_CHUNK = 1000
_MEMORY = "sqlite://"


class Database:
    """An engine with its tables made. `sqlite://` keeps everything in memory, for tests."""

    def __init__(self, url: str) -> None:
        memory = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}} if url == _MEMORY else {}
        self._engine = sa.create_engine(url, **memory)
        self._writing = threading.Lock()
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _tune_sqlite)
        with _translated():
            metadata.create_all(self._engine)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction, committed at the end of the block. Raises Unavailable if the database cannot take it now."""
        with self._writing, _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection to read on. Raises Unavailable if the database does not answer."""
        with _translated(), self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Closes the pool."""
        self._engine.dispose()


def upsert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts the rows; where the primary key exists the other columns given take the new values."""
    if not rows:
        return
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement: Any = insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """The values in portions that fit into one IN list."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def read_counters(connection: sa.Connection) -> dict[str, int]:
    """Every counter by name; absent means 0."""
    return {row.name: row.value for row in connection.execute(sa.select(counters))}


def add_counters(connection: sa.Connection, added: Mapping[str, int]) -> None:
    """Adds to the counters, each made at its first use."""
    grown = {name: count for name, count in added.items() if count}
    if not grown:
        return
    before = read_counters(connection)
    upsert(connection, counters, [{"name": name, "value": before.get(name, 0) + n} for name, n in grown.items()])


def set_counter(connection: sa.Connection, name: str, value: int) -> None:
    """Sets one counter."""
    upsert(connection, counters, [{"name": name, "value": value}])


def select_in(
    connection: sa.Connection, statement: sa.Select[Any], column: Any, values: Iterable[str]
) -> Iterator[Any]:
    """The rows of `statement` whose `column` is one of the values."""
    for portion in chunks(list(values)):
        yield from connection.execute(statement.where(column.in_(portion)))


def _tune_sqlite(connection: Any, _record: Any) -> None:
    """WAL lets readers go on while a batch is written. NORMAL may lose the last transactions in a power cut, whole
    ones and with them the offsets that they moved: they are read again."""
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "cache_size=-32768"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise Unavailable(f"the database does not answer: {error.orig}") from error
