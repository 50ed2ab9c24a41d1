"""The parts that every other test stands on are real and empty."""

import pytest
import redis
from kafka import KafkaConsumer
from mlflow import MlflowClient

from services.chassis.kafka import ensure_topics, make_producer
from services.chassis.settings import KafkaSettings


@pytest.mark.parametrize("_again", [1, 2])
def test_each_test_finds_an_empty_broker(kafka: KafkaSettings, _again: int) -> None:
    ensure_topics(kafka, ["parts.probe.v1"])
    producer = make_producer(kafka)
    producer.send("parts.probe.v1", b"hello").get(10)
    producer.close()
    consumer = KafkaConsumer(
        "parts.probe.v1",
        bootstrap_servers=kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=1500,
    )
    assert [record.value for record in consumer] == [b"hello"]
    consumer.close()


@pytest.mark.parametrize("_again", [1, 2])
def test_each_test_finds_an_empty_redis(redis_server: str, _again: int) -> None:
    host, _, port = redis_server.partition(":")
    with redis.Redis(host, int(port)) as client:
        assert client.dbsize() == 0
        client.set("key", "value")


@pytest.mark.parametrize("_again", [1, 2])
def test_each_test_finds_an_empty_registry(mlflow_server: str, _again: int) -> None:
    client = MlflowClient(mlflow_server)
    assert client.search_registered_models() == []
    client.create_registered_model("probe")
