"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class InferenceMetrics:
    """One set for a process. `variant` is fixed: the deployment's alias."""

    def __init__(self, variant: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._variant = variant
        self.requests = Counter(
            "slipway_inference_requests_total", "ModelInfer calls by gRPC code", ["code"], registry=registry
        )
        self.latency = Histogram(
            "slipway_inference_latency_seconds",
            "From request read to answer ready",
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.rows = Counter("slipway_inference_rows_total", "Rows answered", registry=registry)
        self.batch_rows = Histogram(
            "slipway_inference_batch_rows",
            "Rows that shared one question to features",
            buckets=_ROWS,
            registry=registry,
        )
        self.missing = Counter(
            "slipway_inference_missing_features_total", "Values that were missing", registry=registry
        )
        self.stale = Counter("slipway_inference_stale_features_total", "Values that were stale", registry=registry)
        self._model_info = Gauge(
            "slipway_inference_model_info",
            "1 for the version that is served",
            ["model", "variant", "version", "onnx_sha256"],
            registry=registry,
        )
        self.swaps = Counter("slipway_inference_swaps_total", "Versions that took over", registry=registry)
        self.refusals = Counter(
            "slipway_inference_refused_versions_total", "Versions that failed a check", ["check"], registry=registry
        )
        self.recorder_queue = Gauge(
            "slipway_inference_recorder_queue_rows", "Records that wait for Kafka", registry=registry
        )
        self.recorded = Counter("slipway_inference_recorded_rows_total", "Records that Kafka has", registry=registry)

    def serves(self, model: str, version: str, onnx_sha256: str) -> None:
        """A version took over."""
        self._model_info.clear()
        self._model_info.labels(model, self._variant, version, onnx_sha256).set(1)
        self.swaps.inc()

    def serves_nothing(self) -> None:
        """The version that served was let go of."""
        self._model_info.clear()
