"""One poll, one transaction: joins, runs, releases and offsets; then what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.chassis.errors import Unavailable
from services.chassis.kafka import Record
from services.chassis.logging import get_logger
from services.monitoring import metrics
from services.monitoring.database import Database
from services.monitoring.decoding import Decoder
from services.monitoring.history import keep_releases, keep_runs
from services.monitoring.joiner import Joiner, read_counts
from services.monitoring.quality_book import DAY_US, QualityBook
from services.monitoring.retraining import Retraining


class Recorder:
    """What the consumer's thread does with records. `watermark_us` may be read from any thread."""

    def __init__(
        self, *, database: Database, decoder: Decoder, joiner: Joiner, quality: QualityBook, retraining: Retraining
    ) -> None:
        self._database = database
        self._decoder = decoder
        self._joiner = joiner
        self._quality = quality
        self._retraining = retraining
        self._tidied_day = 0
        self.topics = decoder.topics
        with database.read() as connection:
            self.watermark_us = joiner.watermark_us(connection)
            self.counts = read_counts(connection)
        metrics.show(self.counts, self.watermark_us)

    def record(self, records: Sequence[Record]) -> None:
        """Takes the records into SQL with their offsets, once. Raises Unavailable if SQL cannot take them now."""
        decoded = self._decoder.decode(records)
        with self._database.write() as connection:
            joined = self._joiner.apply(connection, decoded.batch)
            watermark_us = self._joiner.watermark_us(connection)
            keep_runs(connection, decoded.runs, watermark_us)
            keep_releases(connection, decoded.releases, watermark_us)
            counts = read_counts(connection)
        self.watermark_us, self.counts = watermark_us, counts
        self._quality.note(joined)
        metrics.show(counts, watermark_us)
        self._follow(watermark_us)

    def deliver(self, send: Callable[[bytes, bytes], None]) -> None:
        """Hands filed requests to `send`; what cannot be sent waits for the next call."""
        try:
            self._retraining.deliver(send)
        except Unavailable as error:
            get_logger().warning("delivery_delayed", error=str(error))

    def tidy(self) -> None:
        """Forgets old outcomes, once for each day of event time. For moments without a backlog."""
        day = (self.watermark_us or 0) // DAY_US
        if day <= self._tidied_day:
            return
        with self._database.write() as connection:
            self._joiner.prune(connection)
        self._tidied_day = day

    def _follow(self, watermark_us: int | None) -> None:
        """The batch is in SQL: what goes wrong from here must not have it delivered again."""
        try:
            self._retraining.step(watermark_us)
        except Unavailable as error:
            get_logger().warning("evaluation_delayed", error=str(error))
