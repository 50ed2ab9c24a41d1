"""What the replay meets in its tests: a real broker and ingestion, and behind them features and inference by rule."""

from __future__ import annotations

import struct
import threading
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from kafka import KafkaConsumer, TopicPartition

from services.chassis.clock import from_us, parse_rfc3339, proto_us, to_proto, to_us, utc_now
from services.chassis.kafka import Record
from services.chassis.settings import KafkaSettings
from services.contracts.events.v1.events_pb2 import EventRecord
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc
from services.topics import UPSTREAM, events_topic
from tests.support import eventually

_DATA_TYPES = {"BYTES": features_pb2.DATA_TYPE_STRING, "FP64": features_pb2.DATA_TYPE_DOUBLE}


class CountingPlatform(features_pb2_grpc.FeaturesServiceServicer, v2_grpc.GRPCInferenceServiceServicer):
    """Reads the events topics; its prediction is how many events it has read that were available by the as-of moment.

    So a question that comes before its moment is over gets a lower answer, as it would from real features. `outage`
    makes it UNAVAILABLE; `asked` counts the calls by request id that it answered.
    """

    def __init__(self, kafka: KafkaSettings, event_types: Sequence[str], inputs: dict[str, str]) -> None:
        self._kafka = kafka
        self._topics = [events_topic(name).name for name in event_types]
        self._inputs = inputs
        self._available_us: list[int] = []
        self._seen: set[str] = set()
        self._watermarks_us: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.outage = threading.Event()
        self.asked: Counter[str] = Counter()
        self.requests: list[v2.ModelInferRequest] = []
        self.routing_keys: set[str] = set()
        self.address = ""
        self.ingestion = ""

    @contextmanager
    def serve(self) -> Iterator[CountingPlatform]:
        server = grpc.server(ThreadPoolExecutor(4))
        features_pb2_grpc.add_FeaturesServiceServicer_to_server(self, server)
        v2_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        try:
            yield self
        finally:
            self._stopping.set()
            reader.join()
            server.stop(0).wait()

    def GetWatermark(self, request: Any, context: Any) -> features_pb2.GetWatermarkResponse:
        with self._lock:
            if len(self._watermarks_us) < len(self._topics):
                return features_pb2.GetWatermarkResponse()
            watermark = from_us(min(self._watermarks_us.values()))
        return features_pb2.GetWatermarkResponse(watermark=to_proto(watermark))

    def GetFeatureServiceSchema(self, request: Any, context: Any) -> features_pb2.GetFeatureServiceSchemaResponse:
        keys = [features_pb2.Field(name=name, data_type=_DATA_TYPES[kind]) for name, kind in self._inputs.items()]
        return features_pb2.GetFeatureServiceSchemaResponse(join_keys=keys, features=["one", "two"])

    def GetVectors(self, request: Any, context: Any) -> features_pb2.GetVectorsResponse:
        assert all(column.strings or column.doubles for column in request.columns)
        return features_pb2.GetVectorsResponse(values=struct.pack("<2f", 1, 2) * len(request.as_of_us))

    def ModelMetadata(self, request: Any, context: Any) -> v2.ModelMetadataResponse:
        response = v2.ModelMetadataResponse(name=request.name, versions=["1"])
        for name, datatype in self._inputs.items():
            response.inputs.add(name=name, datatype=datatype, shape=[-1])
        return response

    def ModelInfer(self, request: v2.ModelInferRequest, context: Any) -> v2.ModelInferResponse:
        if self.outage.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "an outage")
        told = request.parameters["as_of"].string_param
        as_of_us = to_us(parse_rfc3339(told) if told else utc_now())
        with self._lock:
            count = bisect_right(self._available_us, as_of_us)
            self.asked[request.id] += 1
            self.requests.append(request)
            self.routing_keys |= {value for key, value in context.invocation_metadata() if key == "x-routing-key"}
        response = v2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        response.parameters["variant"].string_param = "champion"
        response.parameters["missing_features"].int64_param = 2
        rows = request.inputs[0].shape[0]
        response.outputs.add(name="probability", datatype="FP32", shape=[rows])
        response.raw_output_contents.append(struct.pack("<f", count) * rows)
        return response

    def _read(self) -> None:
        consumer = KafkaConsumer(bootstrap_servers=self._kafka.bootstrap_servers, auto_offset_reset="earliest")
        partitions = [TopicPartition(topic, 0) for topic in self._topics]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        while not self._stopping.is_set():
            polled = consumer.poll(timeout_ms=50)
            with self._lock:
                for records in polled.values():
                    for record in records:
                        self._take(record)
        consumer.close()

    def _take(self, record: Any) -> None:
        message = EventRecord.FromString(record.value)
        if message.HasField("watermark"):
            self._watermarks_us[record.topic] = proto_us(message.watermark.available_at)
        elif message.event.event_id not in self._seen:
            self._seen.add(message.event.event_id)
            insort(self._available_us, proto_us(message.event.available_at))


def records_of(kafka: KafkaSettings, topic: str) -> list[Record]:
    """All that is on partition 0 of a topic now."""
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    try:
        end = consumer.end_offsets([partition])[partition]
        consumer.assign([partition])
        consumer.seek(partition, 0)
        found: list[Record] = []
        while consumer.position(partition) < end:
            found += consumer.poll(timeout_ms=500).get(partition, [])
        return found
    finally:
        consumer.close()


def wait_for_records(kafka: KafkaSettings, count: int) -> None:
    """Returns once upstream's topic holds that many."""
    partition = TopicPartition(UPSTREAM, 0)
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    try:
        eventually(lambda: consumer.partitions_for_topic(UPSTREAM), "upstream's topic exists")
        eventually(lambda: consumer.end_offsets([partition])[partition] >= count, f"{count} records are sent", 60)
    finally:
        consumer.close()
