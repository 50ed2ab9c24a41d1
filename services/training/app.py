"""Training, wired together: requests from Kafka and gRPC → queue → worker → MLflow; the queue's records → Kafka."""

from __future__ import annotations

import asyncio
import threading
import uuid
from contextlib import AsyncExitStack

import grpc

from services.chassis.clock import utc_now
from services.chassis.grpc_server import grpc_server
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.contracts.training.v1 import training_pb2_grpc as rpc
from services.problem import load_recipe
from services.training.consumer import CONSUMER_PART, PUBLISHER_PART, RecordPublisher, RequestConsumer, start_thread
from services.training.features_client import FeaturesClient
from services.training.mlflow_tracker import MlflowTracker
from services.training.pipeline import Pipeline
from services.training.servicer import SERVICE, TrainingServicer
from services.training.settings import TrainingSettings
from services.training.store import RunStore
from services.training.translate import to_record
from services.training.worker import Worker

_GRACE_S = 2
_JOIN_S = 5


async def serve(settings: TrainingSettings) -> None:
    """Until SIGTERM or SIGINT. A run in progress is started again by the next process."""
    lifecycle = Lifecycle()
    lifecycle.install_signal_handlers()
    for part in (CONSUMER_PART, PUBLISHER_PART):
        lifecycle.not_ready(part, "starting")
    async with AsyncExitStack() as stack:
        stack.enter_context(lifecycle.ops_server(settings.host, settings.ops_port))
        recipe = load_recipe(settings.feature_repo)
        store = RunStore(settings.training_state, to_record, _new_id)
        features = FeaturesClient(settings.features, settings.dataset_timeout_s)
        pipeline = Pipeline(
            recipe=recipe,
            features=features,
            tracker=MlflowTracker(settings.mlflow, recipe.name),
            min_rows=settings.min_rows,
            threads=settings.threads,
        )
        worker = Worker(
            store=store,
            pipeline=pipeline,
            stopping=lifecycle.stopping,
            now=utc_now,
            patience_s=settings.patience_s,
            attempts=settings.attempts,
        )
        consumer, publisher = RequestConsumer(store, recipe.name), RecordPublisher(store)

        await _serve_grpc(stack, settings, TrainingServicer(store=store, model=recipe.name, new_id=_new_id))
        threads = [
            start_thread(lambda: consumer.run(settings.kafka, lifecycle), "requests", lifecycle),
            start_thread(lambda: publisher.run(settings.kafka, lifecycle), "records", lifecycle),
            start_thread(worker.work, "worker", lifecycle),
        ]
        stack.push_async_callback(_join, threads)
        # Before the threads are joined: it frees a worker that waits for a training set.
        stack.callback(features.close)
        get_logger().info("training_serves", model=recipe.name, grpc_port=settings.grpc_port)
        await lifecycle.wait_stopped()


def _new_id() -> str:
    return uuid.uuid4().hex[:12]


async def _serve_grpc(stack: AsyncExitStack, settings: TrainingSettings, servicer: TrainingServicer) -> None:
    def register(server: grpc.aio.Server) -> None:
        rpc.add_TrainingServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]

    address = f"{settings.host}:{settings.grpc_port}"
    await stack.enter_async_context(grpc_server(address, register, [SERVICE], grace_s=_GRACE_S))


async def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        await asyncio.to_thread(thread.join, _JOIN_S)
