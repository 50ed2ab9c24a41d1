"""Prometheus metrics of monitoring."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from services.monitoring.drift import FeatureDrift
from services.monitoring.joiner import Counts
from services.monitoring.quality_book import Group

# Gauges, for they are read from SQL and so survive a restart.
PREDICTIONS = Gauge("slipway_monitoring_predictions", "Predictions recorded, by where they stand.", ["status"])
LABELS = Gauge("slipway_monitoring_labels", "Label events read.")
DUPLICATES = Gauge("slipway_monitoring_duplicates", "Records seen again and ignored.", ["kind"])
LATE_LABELS = Gauge("slipway_monitoring_late_labels", "Labels that came after their prediction's horizon.")
UNREADABLE = Gauge("slipway_monitoring_unreadable_records", "Records passed over because they could not be read.")
WATERMARK = Gauge("slipway_monitoring_watermark_seconds", "Label events available before this were read (Unix time).")
WATERMARK.set(float("nan"))
LAG = Gauge("slipway_monitoring_lag_records", "Records that wait on Kafka to be read.")
AUC = Gauge("slipway_monitoring_auc_ratio", "AUC over the last window.", ["model_version", "variant"])
LOG_LOSS = Gauge("slipway_monitoring_log_loss_nats", "Log loss over the last window.", ["model_version", "variant"])
PSI_MAX = Gauge("slipway_monitoring_psi_max", "Highest PSI of a feature over the last window.")
DRIFTED = Gauge("slipway_monitoring_drifted_features", "Features past the PSI threshold over the last window.")
TRIGGERS = Gauge("slipway_monitoring_triggers", "Retrains asked for.")
MLFLOW_ERRORS = Counter("slipway_monitoring_mlflow_errors", "Calls to MLflow that failed.")


def show(counts: Counts, watermark_us: int | None) -> None:
    """The joins after a batch."""
    for status in ("joined", "void", "pending", "expired"):
        PREDICTIONS.labels(status).set(getattr(counts, status))
    LABELS.set(counts.labels)
    DUPLICATES.labels("prediction").set(counts.duplicate_predictions)
    DUPLICATES.labels("label").set(counts.duplicate_labels)
    LATE_LABELS.set(counts.late_labels)
    UNREADABLE.set(counts.unreadable)
    if watermark_us is not None:
        WATERMARK.set(watermark_us / 1e6)


def show_quality(groups: Iterable[Group]) -> None:
    """The last window's quality; versions that are no longer served disappear."""
    AUC.clear()
    LOG_LOSS.clear()
    for group in groups:
        if group.scored.auc is not None:
            AUC.labels(group.version, group.variant).set(group.scored.auc)
        if group.scored.log_loss is not None:
            LOG_LOSS.labels(group.version, group.variant).set(group.scored.log_loss)


def show_drift(drifts: Iterable[FeatureDrift]) -> None:
    """The last window's drift."""
    known = list(drifts)
    PSI_MAX.set(max((feature.psi for feature in known), default=0.0))
    DRIFTED.set(sum(feature.drifted for feature in known))
