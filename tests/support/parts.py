"""Free ports, and how the session's parts are emptied before a test."""

from __future__ import annotations

import socket

import redis
from kafka.admin import KafkaAdminClient
from mlflow import MlflowClient

from services.chassis.settings import KafkaSettings
from tests.support.eventually import eventually


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def empty_kafka(settings: KafkaSettings) -> None:
    """Deletes every topic of ours, and with them what groups had committed."""
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)

    def ours() -> list[str]:
        return [name for name in admin.list_topics() if not name.startswith("__")]

    try:
        if topics := ours():
            admin.delete_topics(topics)
            eventually(lambda: not ours(), "the topics of earlier tests are deleted")
    finally:
        admin.close()


def empty_redis(address: str) -> None:
    """Deletes every key."""
    host, _, port = address.partition(":")
    with redis.Redis(host, int(port)) as client:
        client.flushall()


def empty_mlflow(url: str) -> None:
    """Deletes every registered model and every run."""
    client = MlflowClient(url)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            client.delete_run(run.info.run_id)
