"""The same checks and answers by gRPC and by HTTP, and one path behind them."""

from __future__ import annotations

import json
from typing import Any

import grpc
import httpx

from services.contracts.ingestion.v1 import ingestion_pb2, ingestion_pb2_grpc
from services.topics import UPSTREAM
from tests.integration.ingestion.platform import Platform
from tests.support import eventually

ACCEPTED = ingestion_pb2.EventResult.OUTCOME_ACCEPTED
REJECTED = ingestion_pb2.EventResult.OUTCOME_REJECTED


def _ordered(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"parcel-{number}/ordered",
        "source": "/parcels",
        "type": "parcel.ordered",
        "time": "2024-03-01T10:00:00Z",
        "recordedtime": "2024-03-01T10:00:30Z",
        "data": {
            "parcel_id": f"parcel-{number}",
            "shop": "shop-1",
            "courier": None,
            "pickup_at": "2024-03-01T12:00:00Z",
            "weight_kg": 1.5,
        },
    } | changes


def _by_grpc(platform: Platform, documents: list[bytes]) -> list[ingestion_pb2.EventResult]:
    address = f"127.0.0.1:{platform.env['SLIPWAY_GRPC_PORT']}"
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = ingestion_pb2_grpc.IngestionServiceStub(channel)
        response = stub.PublishEvents(ingestion_pb2.PublishEventsRequest(cloud_events=documents), timeout=30)
        return list(response.results)


def _by_http(platform: Platform, path: str, body: object, content_type: str) -> httpx.Response:
    url = f"http://127.0.0.1:{platform.env['SLIPWAY_HTTP_PORT']}{path}"
    return httpx.post(
        url, content=json.dumps(body).encode(), headers={"content-type": content_type}, timeout=30, trust_env=False
    )


def test_each_edge_answers_per_event_and_appends_the_good_ones(platform: Platform):
    good, bad = json.dumps(_ordered(1)).encode(), json.dumps(_ordered(2, type="parcel.eaten")).encode()
    with platform.accept():
        results = _by_grpc(platform, [good, bad, b"{"])
        assert [(each.outcome, each.event_id, each.reason) for each in results] == [
            (ACCEPTED, "parcel-1/ordered", ""),
            (REJECTED, "parcel-2/ordered", "unknown_type"),
            (REJECTED, "", "malformed"),
        ]
        assert good in [record.value for record in platform.records(UPSTREAM)]

        single = _by_http(platform, "/v1/events", _ordered(3), "application/cloudevents+json")
        assert (single.status_code, single.json()["outcome"]) == (202, "accepted")
        wrong = _by_http(platform, "/v1/events", _ordered(4, data={}), "application/json")
        assert (wrong.status_code, wrong.json()["reason"]) == (422, "schema")
        batch = _by_http(
            platform, "/v1/events:batch", [_ordered(5), _ordered(6, id="")], "application/cloudevents-batch+json"
        )
        assert [each["reason"] for each in batch.json()["results"]] == ["", "envelope"]

        expected = {"parcel-1/ordered", "parcel-3/ordered", "parcel-5/ordered"}
        eventually(
            lambda: {event.event_id for event in platform.events("parcel.ordered")} == expected,
            "what the edges took is published",
        )
    assert platform.dead() == []
    assert {event.origin.topic for event in platform.events("parcel.ordered")} == {UPSTREAM}
