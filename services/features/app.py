"""Composition roots: events topics → online store; online store and lake → vectors and training sets over gRPC."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack

import grpc
from prometheus_client import REGISTRY

from services.chassis import logging
from services.chassis.clock import utc_now
from services.chassis.errors import Unavailable
from services.chassis.grpc_server import grpc_server
from services.chassis.kafka_session import GONE, PART, SessionThread
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.contracts.features.v1.features_pb2_grpc import add_FeaturesServiceServicer_to_server
from services.features.builds import Builds
from services.features.consumer import STORE, LostGround, Streaming
from services.features.definitions import Definitions, load_definitions
from services.features.feast_registry import write_registry
from services.features.lake import Lake
from services.features.metrics import StatusCounts
from services.features.redis_store import ServeStore
from services.features.servicer import SERVICE, FeaturesServicer
from services.features.settings import ServeSettings, StreamSettings
from services.features.training_files import remove_abandoned
from services.features.training_sets import TrainingSets
from services.features.vectors import VectorService
from services.problem import load_recipe

_GRPC = "grpc"
_GRACE_S = 2
_LOOK_EVERY_S = 1.0
# Batches are thousands of small objects without cycles; the default thresholds cost a sixth of the time.
_GC_THRESHOLDS = (50_000, 20, 20)


def run_stream() -> int:
    """Until SIGTERM; the exit code."""
    settings = StreamSettings()
    logging.configure("features-stream", settings.log_level, settings.log_format)
    gc.set_threshold(*_GC_THRESHOLDS)
    lifecycle = Lifecycle()
    lifecycle.install_signal_handlers()
    lifecycle.not_ready(PART, f"{settings.kafka.bootstrap_servers} has not answered yet")
    lifecycle.not_ready(STORE, f"{settings.redis} has not answered yet")
    with lifecycle.ops_server(settings.host, settings.ops_port):
        session = Streaming(settings, load_definitions(settings.feature_repo), lifecycle).run
        gc.freeze()
        worker = SessionThread(session, lifecycle, (*GONE, LostGround))
        lifecycle.stopping.wait()
        return worker.join()


def run_serve() -> int:
    """Until SIGTERM; the exit code."""
    settings = ServeSettings()
    logging.configure("features", settings.log_level, settings.log_format)
    gc.set_threshold(*_GC_THRESHOLDS)
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: ServeSettings) -> None:
    lifecycle = Lifecycle()
    lifecycle.install_signal_handlers()
    lifecycle.not_ready(_GRPC, "starting")
    lifecycle.not_ready(STORE, f"{settings.redis} has not answered yet")
    async with AsyncExitStack() as stack:
        stack.enter_context(lifecycle.ops_server(settings.host, settings.ops_port))
        definitions = load_definitions(settings.feature_repo)
        write_registry(settings.feature_repo, settings.registry, settings.redis)
        store = ServeStore(settings.redis, definitions.project, settings.redis_timeout_s)
        stack.push_async_callback(store.close)
        remove_abandoned(settings.training_sets, utc_now())
        builds = Builds(_training_sets(settings, definitions).build)
        servicer = _servicer(settings, definitions, store, builds)

        def register(server: grpc.aio.Server) -> None:
            add_FeaturesServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]

        address = f"{settings.host}:{settings.grpc_port}"
        port = await stack.enter_async_context(grpc_server(address, register, [SERVICE], grace_s=_GRACE_S))
        stack.callback(builds.stop)
        # What was loaded stays: a collection that walks through it takes a tenth of a second.
        gc.freeze()
        lifecycle.ready(_GRPC)
        get_logger().info("serving", grpc_port=port, feature_services=sorted(definitions.services))
        watching = asyncio.create_task(_watch(store, lifecycle))
        stack.callback(watching.cancel)
        await lifecycle.wait_stopped()


def _training_sets(settings: ServeSettings, definitions: Definitions) -> TrainingSets:
    return TrainingSets(definitions, load_recipe(settings.feature_repo), Lake(settings.lake), settings.training_sets)


def _servicer(settings: ServeSettings, definitions: Definitions, store: ServeStore, builds: Builds) -> FeaturesServicer:
    services = {
        name: VectorService(definitions.project, plan, store, settings.history_us)
        for name, plan in definitions.services.items()
    }
    statuses = StatusCounts()
    REGISTRY.register(statuses)
    return FeaturesServicer(
        services,
        store,
        builds,
        statuses,
        utc_now,
        max_rows=settings.max_rows,
        max_calls=settings.max_calls,
    )


async def _watch(store: ServeStore, lifecycle: Lifecycle) -> None:
    """Says in /ready whether the online store answers."""
    while True:
        try:
            await store.watermark_us()
            lifecycle.ready(STORE)
        except Unavailable as error:
            lifecycle.not_ready(STORE, str(error))
        await asyncio.sleep(_LOOK_EVERY_S)
