"""The composition root of inference: read it top to bottom."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import httpx
from starlette.types import ASGIApp

from services.chassis.clock import utc_now
from services.chassis.fastlane import fastlane_server
from services.chassis.grpc_server import grpc_server
from services.chassis.http_server import http_server
from services.chassis.kafka import ensure_topics, make_producer
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc
from services.inference.deployment import Deployment
from services.inference.fast_lane import PATH, FastInfer
from services.inference.feature_client import CHANNEL_OPTIONS, FeatureClient
from services.inference.health import ModelHealth
from services.inference.loading import VersionLoader
from services.inference.metrics import InferenceMetrics
from services.inference.model_cache import ModelCache
from services.inference.predictor import Predictor
from services.inference.recorder import Producer, Recorder
from services.inference.registry import ModelRegistry
from services.inference.rest.api import make_api
from services.inference.rest.clouds import CloudSettings
from services.inference.scorer import Limits
from services.inference.servicer import SERVICE, InferenceServicer
from services.inference.settings import InferenceSettings
from services.inference.trial import prove
from services.topics import PREDICTIONS

_GRPC, _HTTP = "grpc", "http"


async def serve(settings: InferenceSettings, lifecycle: Lifecycle, clouds: CloudSettings) -> None:
    """Runs until the lifecycle is stopped: calls in progress are answered, their records reach Kafka, then it ends."""
    lifecycle.not_ready(_GRPC, "starting")
    lifecycle.not_ready(_HTTP, "starting")
    metrics = InferenceMetrics(settings.variant)
    recorder = Recorder(lambda: connect_producer(settings), metrics, settings.record_queue_rows)
    recorder.start()
    try:
        async with (
            grpc.aio.insecure_channel(settings.features, options=CHANNEL_OPTIONS) as channel,
            httpx.AsyncClient(base_url=settings.mlflow, trust_env=False, timeout=10.0) as http,
        ):
            features = FeatureClient(channel, settings.features, settings.features_timeout_s)
            health = ModelHealth(settings.model)
            registry = ModelRegistry(http)
            cache = ModelCache(settings.model_cache)
            deployment = Deployment(
                settings.model,
                settings.variant,
                registry=registry,
                loader=VersionLoader(registry, cache, features, max_model_bytes=settings.max_model_bytes, prove=prove),
                metrics=metrics,
                lifecycle=lifecycle,
                refused_retry_s=settings.refused_retry_s,
                announce=health.announce,
            )
            predictor = Predictor(
                settings.model,
                settings.variant,
                deployment=deployment,
                fetch=features.vectors,
                records=recorder,
                metrics=metrics,
                now=utc_now,
                limits=Limits(settings.max_batch_rows, settings.max_waiting_rows, settings.max_questions),
                max_call_rows=settings.max_call_rows,
            )
            servicer = InferenceServicer(predictor, deployment, metrics)
            api = make_api(
                settings.model,
                predictor=predictor,
                deployment=deployment,
                metrics=metrics,
                clouds=clouds,
                stopping=lifecycle.stopping.is_set,
            )
            async with (
                _following(deployment, settings.alias_poll_s),
                _serving(settings, servicer, health) as grpc_port,
                _serving_http(settings, clouds, api) as http_port,
                _serving_fast(settings, FastInfer(predictor, metrics)) as fast_port,
            ):
                lifecycle.ready(_GRPC)
                lifecycle.ready(_HTTP)
                ports = {"grpc_port": grpc_port, "http_port": http_port, "fast_port": fast_port}
                get_logger().info("serving", **ports, model=settings.model)
                await lifecycle.wait_stopped()
                lifecycle.not_ready(_GRPC, "stopping")
    finally:
        recorder.close(settings.drain_s)


def connect_producer(settings: InferenceSettings) -> Producer:
    """A producer to a broker that has the topic; raises if it does not answer."""
    ensure_topics(settings.kafka, [PREDICTIONS.name])
    producer: Producer = make_producer(settings.kafka, max_block_ms=5000, reconnect_backoff_max_ms=1000)
    return producer


@asynccontextmanager
async def _following(deployment: Deployment, poll_s: float) -> AsyncIterator[None]:
    task = asyncio.create_task(deployment.follow(poll_s), name="follow-alias")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _serving(settings: InferenceSettings, servicer: InferenceServicer, health: ModelHealth) -> AsyncIterator[int]:
    def register(server: grpc.aio.Server) -> None:
        v2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]

    address = f"{settings.host}:{settings.grpc_port}"
    async with grpc_server(address, register, [SERVICE], grace_s=settings.drain_s, health=health.servicer) as port:
        yield port


@asynccontextmanager
async def _serving_fast(settings: InferenceSettings, infer: FastInfer) -> AsyncIterator[int | None]:
    if not settings.fast_lane:
        yield None
        return
    address = f"{settings.host}:{settings.fast_port}"
    async with fastlane_server(address, {PATH: infer}, grace_s=settings.drain_s) as port:
        yield port


@asynccontextmanager
async def _serving_http(settings: InferenceSettings, clouds: CloudSettings, api: ASGIApp) -> AsyncIterator[int]:
    port = clouds.port(settings.http_port, own_is_told="http_port" in settings.model_fields_set)
    async with http_server(api, settings.host, port, grace_s=math.ceil(settings.drain_s)):
        yield port
