"""The router, wired together: releases in SQL move the aliases and the split that Envoy polls."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

import grpc
import httpx

from services.chassis.clock import utc_now
from services.chassis.grpc_server import grpc_server
from services.chassis.http_server import http_server
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.contracts.router.v1 import router_pb2_grpc as rpc
from services.problem import load_recipe
from services.router import metrics
from services.router.api import make_api
from services.router.commands import Commands
from services.router.conductor import Conductor
from services.router.consumer import CONSUMER_PART, PUBLISHER_PART, ReleasePublisher, RunConsumer, start_threads
from services.router.deployments import Deployment
from services.router.envoy_counters import EnvoyCounters
from services.router.envoy_polls import EnvoyPolls
from services.router.mlflow_registry import MlflowRegistry
from services.router.quality import Quality
from services.router.queries import Queries
from services.router.servicer import RouterServicer
from services.router.settings import RouterSettings
from services.router.store import ReleaseStore
from services.router.translate import to_record
from services.router.world import World

_SERVICE = "slipway.router.v1.RouterService"
_HTTP_TIMEOUT_S = 5.0
_GRACE_S = 2


async def serve(settings: RouterSettings) -> None:
    """Until SIGTERM or SIGINT."""
    lifecycle = Lifecycle()
    lifecycle.install_signal_handlers()
    for part in (CONSUMER_PART, PUBLISHER_PART):
        lifecycle.not_ready(part, "starting")
    async with AsyncExitStack() as stack:
        recipe = load_recipe(settings.feature_repo)
        stack.enter_context(lifecycle.ops_server(settings.host, settings.ops_port))
        store = ReleaseStore(settings.database, to_record)
        stack.callback(store.close)
        for account in store.accounts()[:1]:
            metrics.show_release(account.release)

        polls = EnvoyPolls()
        registry = MlflowRegistry(await _http(stack, settings.mlflow), recipe.name)
        world = World(
            champion=Deployment(await _channel(stack, settings.champion), recipe.name),
            challenger=Deployment(await _channel(stack, settings.challenger), recipe.name),
            polls=polls,
            counters=EnvoyCounters(await _http(stack, settings.envoy_admin)),
            quality=Quality(await _channel(stack, settings.monitoring)),
        )
        conductor = Conductor(
            store=store,
            registry=registry,
            world=world,
            canary=recipe.canary,
            patience=timedelta(seconds=settings.patience_s),
            now=utc_now,
        )
        commands = Commands(
            store=store, registry=registry, conductor=conductor, world=world, model=recipe.name, now=utc_now
        )
        queries = Queries(store=store, conductor=conductor, world=world, registry=registry)

        await _serve_grpc(stack, settings, RouterServicer(commands=commands, queries=queries, model=recipe.name))
        api = make_api(
            commands=commands, queries=queries, polls=polls, model=recipe.name, call_timeout=settings.call_timeout
        )
        await stack.enter_async_context(http_server(api, settings.host, settings.http_port, grace_s=_GRACE_S))
        consumer, publisher = RunConsumer(commands, recipe.name), ReleasePublisher(store)
        stack.push_async_callback(_join, start_threads(consumer, publisher, settings.kafka, lifecycle))
        get_logger().info("router_serves", model=recipe.name, grpc_port=settings.grpc_port)
        await _until_stopped(lifecycle, asyncio.create_task(conductor.run(settings.tick_s)))


async def _until_stopped(lifecycle: Lifecycle, conducting: asyncio.Task[None]) -> None:
    """Returns when the process is told to stop; raises what ended the conductor if that comes first."""
    told = asyncio.create_task(lifecycle.wait_stopped())
    await asyncio.wait([told, conducting], return_when=asyncio.FIRST_COMPLETED)
    lifecycle.stop()
    conducting.cancel()
    with suppress(asyncio.CancelledError):
        await conducting


async def _serve_grpc(stack: AsyncExitStack, settings: RouterSettings, servicer: RouterServicer) -> None:
    def register(server: grpc.aio.Server) -> None:
        rpc.add_RouterServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]

    address = f"{settings.host}:{settings.grpc_port}"
    await stack.enter_async_context(grpc_server(address, register, [_SERVICE], grace_s=_GRACE_S))


async def _channel(stack: AsyncExitStack, address: str) -> grpc.aio.Channel:
    # A deployment that restarts is asked again within a second, not after gRPC's two minutes.
    options = [("grpc.max_reconnect_backoff_ms", 1000), ("grpc.enable_http_proxy", 0)]
    return await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))


async def _http(stack: AsyncExitStack, url: str) -> httpx.AsyncClient:
    return await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=_HTTP_TIMEOUT_S, trust_env=False))


async def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        await asyncio.to_thread(thread.join, _GRACE_S)
