"""Composition root: Kafka → recorder → SQL ← gRPC, console; drift and decay → Kafka."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from services.chassis.errors import Unavailable
from services.chassis.grpc_server import grpc_server
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.contracts.monitoring.v1.monitoring_pb2_grpc import add_MonitoringServiceServicer_to_server
from services.monitoring import retraining
from services.monitoring.api import http_server
from services.monitoring.console.page import Console
from services.monitoring.console.platform import Platform
from services.monitoring.console.router_client import RouterClient
from services.monitoring.console.view import Viewer
from services.monitoring.consumer import Consumer
from services.monitoring.database import Database
from services.monitoring.decoding import Decoder
from services.monitoring.drift_book import DriftBook
from services.monitoring.joiner import Joiner
from services.monitoring.mlflow_client import MlflowClient
from services.monitoring.quality_book import QualityBook
from services.monitoring.recorder import Recorder
from services.monitoring.registry import Registry
from services.monitoring.retraining import Retraining
from services.monitoring.servicer import SERVICE, MonitoringServicer
from services.monitoring.settings import MonitoringSettings
from services.problem import load_recipe

_PAUSE_S = 1.0


async def serve(settings: MonitoringSettings) -> None:
    """Runs until the process is told to stop."""
    lifecycle = Lifecycle()
    lifecycle.install_signal_handlers()
    recipe = load_recipe(settings.feature_repo)
    async with AsyncExitStack() as stack:
        for part in ("database", "kafka", "grpc", "http"):
            lifecycle.not_ready(part, "starting")
        stack.enter_context(lifecycle.ops_server(settings.host, settings.ops_port))
        database = await _open(settings.database, lifecycle)
        if database is None:
            return
        stack.callback(database.close)

        decoder = Decoder(recipe)
        joiner = Joiner(recipe.label.horizon, decoder.label_topics, settings.outcome_margin)
        quality = QualityBook(database)
        drift = DriftBook(database, retraining.bucket_us(recipe.retrain.window), recipe.retrain.psi_threshold)
        mlflow = MlflowClient(settings.mlflow)
        stack.push_async_callback(mlflow.close)
        registry = Registry(mlflow, recipe.name, drift, database)
        asking = Retraining(database=database, recipe=recipe, drift=drift, quality=quality, champion=registry.champion)
        recorder = Recorder(database=database, decoder=decoder, joiner=joiner, quality=quality, retraining=asking)
        consumer = Consumer(settings.kafka, lifecycle, database, recorder)

        router = RouterClient(settings.router)
        stack.push_async_callback(router.close)
        platform = Platform(settings.ops, settings.training, router)
        stack.push_async_callback(platform.close)
        viewer = Viewer(
            recipe=recipe,
            database=database,
            recorder=recorder,
            quality=quality,
            drift=drift,
            registry=registry,
            retraining=asking,
            platform=platform,
        )
        console = Console(recipe.name, viewer, router)

        servicer = MonitoringServicer(
            recipe=recipe,
            database=database,
            recorder=recorder,
            quality=quality,
            drift=drift,
            champion=registry.champion,
        )
        await stack.enter_async_context(
            grpc_server(
                f"{settings.host}:{settings.grpc_port}",
                lambda server: add_MonitoringServiceServicer_to_server(servicer, server),  # type: ignore[no-untyped-call]
                [SERVICE],
                grace_s=2.0,
            )
        )
        lifecycle.ready("grpc")
        await stack.enter_async_context(http_server(console, settings.host, settings.http_port))
        lifecycle.ready("http")

        background = [
            asyncio.create_task(work)
            for work in (
                registry.follow(lifecycle, settings.mlflow_poll_s),
                platform.follow(lifecycle),
                viewer.follow(lifecycle),
            )
        ]
        stack.push_async_callback(_cancel, background)
        await _consume(consumer, lifecycle, background)


async def _consume(consumer: Consumer, lifecycle: Lifecycle, background: list[asyncio.Task[None]]) -> None:
    """The process lives as long as its consumer and its background tasks; what ends one ends it."""
    consuming = asyncio.create_task(asyncio.to_thread(consumer.run))
    stopped = asyncio.create_task(lifecycle.wait_stopped())
    done, _ = await asyncio.wait([consuming, stopped, *background], return_when=asyncio.FIRST_COMPLETED)
    lifecycle.stop()
    await consuming
    for task in done:
        task.result()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _open(url: str, lifecycle: Lifecycle) -> Database | None:
    """The database once it answers; None if the process was told to stop before."""
    while not lifecycle.stopping.is_set():
        try:
            database = await asyncio.to_thread(Database, url)
        except Unavailable as error:
            lifecycle.not_ready("database", str(error))
            get_logger().warning("database_awaited", error=str(error))
            await asyncio.sleep(_PAUSE_S)
        else:
            lifecycle.ready("database")
            return database
    return None
