"""The tables: predictions and outcomes, how far Kafka was read, and what was learned from them.

Times are microseconds of event time since the Unix epoch, UTC. Weights are basis points of traffic.
"""

from __future__ import annotations

from enum import IntEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    text,
)

# SQLite makes a row id only of INTEGER, Postgres needs BIGINT for a long life.
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")


class Status(IntEnum):
    """Where a prediction stands. PENDING is the only one that it can leave."""

    PENDING = 0
    JOINED = 1
    VOID = 2
    EXPIRED = 3


metadata = MetaData()

predictions = Table(
    "predictions",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("prediction_id", String, nullable=False, unique=True),
    Column("entity_id", String, nullable=False, index=True),
    Column("version", String, nullable=False),
    Column("variant", String, nullable=False),
    Column("release_id", String, nullable=False),
    Column("challenger_weight", Integer, nullable=False),
    Column("as_of_us", BigInteger, nullable=False, index=True),
    Column("score", Float, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("statuses", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("label", Float),
)
Index("predictions_by_version", predictions.c.version, predictions.c.seq)
_released, _pending = text("release_id != ''"), text(f"status = {Status.PENDING:d}")
Index("predictions_by_release", predictions.c.release_id, sqlite_where=_released, postgresql_where=_released)
Index("predictions_pending", predictions.c.as_of_us, sqlite_where=_pending, postgresql_where=_pending)

# `label` null: there will never be one (void).
outcomes = Table(
    "outcomes",
    metadata,
    Column("entity_id", String, primary_key=True),
    Column("label", Float),
    Column("available_at_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# `watermark_us`: the last Watermark read from the partition.
positions = Table(
    "positions",
    metadata,
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("watermark_us", BigInteger),
)

counters = Table(
    "counters", metadata, Column("name", String, primary_key=True), Column("value", BigInteger, nullable=False)
)

# What MLflow holds of a version; `binned_seq`: predictions up to it are in its histograms.
versions = Table(
    "versions",
    metadata,
    Column("version", String, primary_key=True),
    Column("features_json", String, nullable=False),
    Column("reference_json", String, nullable=False),
    Column("binned_seq", BigInteger, nullable=False),
)

# `counts`: little-endian int64, every feature's bins one after the other, the missing ones last in each.
histograms = Table(
    "histograms",
    metadata,
    Column("version", String, primary_key=True),
    Column("bucket_us", BigInteger, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("counts", LargeBinary, nullable=False),
)

# The last record of each run and release, and the watermark when it was read.
runs = Table(
    "runs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("state", Integer, nullable=False),
    Column("watermark_us", BigInteger),
    Column("record", LargeBinary, nullable=False),
)
releases = Table(
    "releases",
    metadata,
    Column("release_id", String, primary_key=True),
    Column("phase", Integer, nullable=False),
    Column("watermark_us", BigInteger),
    Column("record", LargeBinary, nullable=False),
)

# An outbox: `request` is the RetrainRequest, `sent` says whether Kafka has it.
triggers = Table(
    "triggers",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("event_time_us", BigInteger, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("sent", Boolean, nullable=False),
)
