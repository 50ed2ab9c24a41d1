"""A broker that comes and goes: training says so, and misses no request that comes afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import parts, probes
from services.chassis.errors import Unavailable
from services.chassis.kafka import wait_for_kafka
from services.chassis.kafka_session import whole_consumer
from services.chassis.settings import KafkaSettings
from services.contracts.training.v1 import training_pb2 as pb
from tests.integration.training.conftest import Stage, request, waiting_for
from tests.support import eventually, free_port
from tests.support.process import Running, start_process

PARTS = {"training requests", "run records"}


def test_while_kafka_is_gone_it_is_named_and_afterwards_requests_are_taken(stage: Stage, tmp_path: Path) -> None:
    folder, port = tmp_path / "broker", free_port()
    parts.prepare_kafka(folder, port, free_port())
    here = replace(stage, kafka=KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}"))
    broker = _broker(folder, here.kafka, port)
    try:
        running = here.start(SLIPWAY_KAFKA__BOOTSTRAP_SERVERS=here.kafka.bootstrap_servers)
        broker.kill()
        eventually(lambda: "training requests" in waiting_for(running.ops_port), "/ready says that Kafka is gone")
        by_hand = here.ask(request("meanwhile"))
        assert here.ended("meanwhile").run_id == by_hand
        eventually(lambda: waiting_for(running.ops_port).keys() == PARTS, "its records wait, too", 60)

        broker = _broker(folder, here.kafka, port)
        eventually(lambda: not waiting_for(running.ops_port), "/ready says yes", 60)
        here.send(request("afterwards"))

        assert here.ended("afterwards").state == pb.RUN_STATE_REGISTERED
        here.told(*2 * (pb.RUN_STATE_RUNNING, pb.RUN_STATE_REGISTERED))
        assert running.terminate() == 0
    finally:
        broker.kill()


def test_a_topic_that_the_broker_does_not_know_yet_is_waited_for_and_not_read_as_empty(kafka: KafkaSettings) -> None:
    with pytest.raises(Unavailable, match=r"training\.requests\.v1 has no partitions yet"):
        whole_consumer(kafka, "training", ["training.requests.v1"])


def _broker(folder: Path, settings: KafkaSettings, port: int) -> Running:
    broker = start_process(parts.kafka_command(folder), env={}, ops_port=0)
    broker.wait_ready(probes.tcp_open(port), 60)
    wait_for_kafka(settings)
    return broker
