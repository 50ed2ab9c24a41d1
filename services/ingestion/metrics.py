"""What the two processes count."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("slipway_ingestion_events_total", "Accepted events.", ["type"])
DEAD_LETTERS = Counter("slipway_ingestion_dead_letters_total", "Dead letters.", ["reason"])
HEARTBEATS = Counter("slipway_ingestion_heartbeats_total", "Heartbeats.")
RAISED = Counter("slipway_ingestion_late_events_total", "Events whose available_at was raised to the watermark.")
EDGE_EVENTS = Counter("slipway_ingestion_edge_events_total", "Events answered by an API.", ["edge", "outcome"])
LAG = Gauge("slipway_ingestion_lag_records", "Upstream records that wait.")
WATERMARK = Gauge("slipway_ingestion_watermark_seconds", "The watermark, Unix seconds.")
BATCH = Histogram("slipway_ingestion_batch_seconds", "From a batch polled to its records published.")

LAKE_ROWS = Counter("slipway_lake_rows_total", "Rows committed.", ["type"])
LAKE_DUPLICATES = Counter("slipway_lake_duplicates_total", "Upstream's duplicates, kept apart.", ["type"])
LAKE_REDELIVERIES = Counter("slipway_lake_redeliveries_total", "Records that the lake had already.", ["type"])
LAKE_UNREADABLE = Counter(
    "slipway_lake_unreadable_total", "Records that are not an EventRecord; nobody of us sends one."
)
LAKE_COMMITS = Counter("slipway_lake_commits_total", "Delta commits.", ["type"])
LAKE_WATERMARK = Gauge("slipway_lake_watermark_seconds", "The table's watermark, Unix seconds.", ["type"])
LAKE_LAG = Gauge("slipway_lake_lag_records", "Accepted records that wait.")
LAKE_FLUSH = Histogram("slipway_lake_flush_seconds", "Duration of a flush: one commit for each type it touches.")
