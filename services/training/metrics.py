"""What training counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from services.training.runs import RunState

RUNS = Counter("slipway_training_runs_total", "Runs that ended, by state.", ["state"])
STAGE_SECONDS = Histogram(
    "slipway_training_stage_seconds",
    "How long the stages of runs took.",
    ["stage"],
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600),
)
RUNNING = Gauge("slipway_training_running", "1 while a run is in progress.")
QUEUED = Gauge("slipway_training_queued_runs", "Runs that wait for their turn.")
HOLDOUT_AUC = Gauge("slipway_training_holdout_auc_ratio", "AUC of the last evaluated model on its hold-out; NaN: none.")
REQUESTS = Counter("slipway_training_requests_total", "Requests by edge and what was done.", ["edge", "result"])
UNSENT = Gauge("slipway_training_unsent_records", "Run records that Kafka has not acknowledged.")
RETRIES = Counter("slipway_training_retries_total", "Calls repeated because a part did not answer.")

HOLDOUT_AUC.set(float("nan"))
for ended in (RunState.REGISTERED, RunState.REFUSED, RunState.ERROR):
    RUNS.labels(ended.value)
