"""Composition roots: upstream, gRPC and HTTP → checks → events topics; events topics → Delta lake."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack

import grpc

from services.chassis import logging
from services.chassis.clock import utc_now
from services.chassis.grpc_server import grpc_server
from services.chassis.http_server import http_server
from services.chassis.kafka import make_producer
from services.chassis.kafka_session import PART, SessionThread
from services.chassis.lifecycle import Lifecycle
from services.contracts.ingestion.v1.ingestion_pb2_grpc import add_IngestionServiceServicer_to_server
from services.ingestion.api import make_api
from services.ingestion.consumer import Accepting
from services.ingestion.intake import Intake
from services.ingestion.lake.consumer import Keeping
from services.ingestion.servicer import SERVICE, IngestionServicer
from services.ingestion.settings import AcceptSettings, LakeSettings
from services.ingestion.validation import Validator
from services.problem import load_event_types

_GRACE_S = 2
# A caller of an API is answered soon, also while Kafka is down.
_INTAKE = {"bootstrap_timeout_ms": 3000, "max_block_ms": 3000}
# Batches are thousands of small objects without cycles; the default thresholds cost a sixth of the time.
_GC_THRESHOLDS = (50_000, 20, 20)


def run_accept() -> int:
    """Until SIGTERM; the exit code."""
    settings = AcceptSettings()
    logging.configure("ingestion", settings.log_level, settings.log_format)
    gc.set_threshold(*_GC_THRESHOLDS)
    return asyncio.run(_accept(settings))


def run_lake() -> int:
    """Until SIGTERM; the exit code."""
    settings = LakeSettings()
    logging.configure("lake", settings.log_level, settings.log_format)
    gc.set_threshold(*_GC_THRESHOLDS)
    lifecycle = Lifecycle()
    lifecycle.install_signal_handlers()
    lifecycle.not_ready(PART, f"{settings.kafka.bootstrap_servers} has not answered yet")
    event_types = load_event_types(settings.feature_repo)
    with lifecycle.ops_server(settings.host, settings.ops_port):
        session = Keeping(settings, event_types, lifecycle).run
        worker = SessionThread(session, lifecycle)
        lifecycle.stopping.wait()
        return worker.join()


async def _accept(settings: AcceptSettings) -> int:
    lifecycle = Lifecycle()
    lifecycle.install_signal_handlers()
    lifecycle.not_ready(PART, f"{settings.kafka.bootstrap_servers} has not answered yet")
    for part in ("grpc", "http"):
        lifecycle.not_ready(part, "starting")
    event_types = load_event_types(settings.feature_repo)
    validator = Validator(
        event_types,
        utc_now,
        recordedtime_required=settings.availability == "recordedtime",
        max_event_bytes=settings.max_event_bytes,
    )
    intake = Intake(validator, lambda: make_producer(settings.kafka, **_INTAKE))
    async with AsyncExitStack() as stack:
        stack.enter_context(lifecycle.ops_server(settings.host, settings.ops_port))
        stack.callback(intake.close)
        session = Accepting(settings, list(event_types), validator, lifecycle, utc_now).run
        worker = SessionThread(session, lifecycle)
        await _serve_grpc(stack, settings, intake)
        lifecycle.ready("grpc")
        await stack.enter_async_context(
            http_server(make_api(intake), settings.host, settings.http_port, grace_s=_GRACE_S)
        )
        lifecycle.ready("http")
        await lifecycle.wait_stopped()
        return await asyncio.to_thread(worker.join)


async def _serve_grpc(stack: AsyncExitStack, settings: AcceptSettings, intake: Intake) -> None:
    def register(server: grpc.aio.Server) -> None:
        add_IngestionServiceServicer_to_server(IngestionServicer(intake), server)  # type: ignore[no-untyped-call]

    address = f"{settings.host}:{settings.grpc_port}"
    await stack.enter_async_context(grpc_server(address, register, [SERVICE], grace_s=_GRACE_S))
