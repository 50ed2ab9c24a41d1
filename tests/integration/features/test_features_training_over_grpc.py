"""Training sets over gRPC: built from the lake, and the same numbers as were served."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlparse

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest

from services.chassis.clock import to_proto, to_us
from services.contracts.features.v1 import features_pb2
from tests.integration.features.platform import SERVICE, Platform
from tests.problems.parcels.upstream import START, parcels
from tests.support import eventually
from tests.support.event_lake import EventLake

DAY = timedelta(days=1)
END = START + 3 * DAY


def _build(stub, **changes: datetime | None) -> list[features_pb2.BuildTrainingSetResponse]:
    moments = {"from": END - DAY, "to": END - DAY / 2, "known_by": END} | changes
    given = {name: to_proto(moment) for name, moment in moments.items() if moment is not None}
    return list(stub.BuildTrainingSet(features_pb2.BuildTrainingSetRequest(**given), timeout=60))


def test_a_training_set_holds_what_serving_answered_at_the_same_moments(platform: Platform):
    events = [event for event in parcels(until=END) if event.recorded_at < END]
    lake = EventLake(Path(platform.env["SLIPWAY_LAKE"]), platform.definitions.event_types)
    lake.add(lake.from_cloud_event(event.value) for event in events)
    lake.reached(END)
    platform.publish(events)
    platform.watermark(END)

    with platform.stream(), platform.serve(), platform.channel() as channel:
        stub = platform.stub(channel)
        eventually(lambda: platform.reached(END), "all is worked in")

        *stages, last = _build(stub)
        assert any("windowed features of courier_recent (1 of 3)" in each.stage for each in stages)
        assert _build(stub)[-1].training_set == last.training_set
        table = pq.read_table(unquote(urlparse(last.training_set.uri).path))
        assert table.num_rows == last.training_set.rows > 100

        rows = table.to_pylist()
        served = stub.GetVectors(
            features_pb2.GetVectorsRequest(
                feature_service=SERVICE,
                columns=[
                    features_pb2.Column(name="courier", strings=[row["courier"] or "" for row in rows]),
                    features_pb2.Column(name="shop", strings=[row["shop"] for row in rows]),
                    features_pb2.Column(name="pickup_at", strings=[_text(row["pickup_at"]) for row in rows]),
                    features_pb2.Column(name="weight_kg", doubles=[row["weight_kg"] for row in rows]),
                ],
                as_of_us=[to_us(row["as_of"]) for row in rows],
            ),
            timeout=30,
        )
        features = list(last.training_set.features)
        trained = np.column_stack([table[name].to_numpy() for name in features])
        values = np.frombuffer(served.values, "<f4").reshape(trained.shape)
        assert features == [feature.name for feature in platform.plan.features]
        np.testing.assert_allclose(values, trained, rtol=1e-6)

        with pytest.raises(grpc.RpcError) as refused:
            _build(stub, **{"from": None})
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "from: not set" in refused.value.details()


def test_a_build_ends_with_its_caller_and_with_the_process(platform: Platform):
    lake = EventLake(Path(platform.env["SLIPWAY_LAKE"]), platform.definitions.event_types)
    lake.reached(START)

    with platform.serve() as serve, platform.channel() as channel:
        stub = platform.stub(channel)
        request = features_pb2.BuildTrainingSetRequest(**{"from": to_proto(START), "to": to_proto(END)})
        first = stub.BuildTrainingSet(request, timeout=60)
        assert next(first).stage.startswith("waiting for the lake")
        second = stub.BuildTrainingSet(request, timeout=60)
        assert next(second).stage == "waiting for another training set to be built"

        first.cancel()
        # Long before the first would have given up.
        begun = time.monotonic()
        assert next(second).stage.startswith("waiting for the lake")
        assert time.monotonic() - begun < 20

        assert serve.terminate() == 0
        with pytest.raises(grpc.RpcError) as ended:
            list(second)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "the server stops" in ended.value.details()


def _text(moment: datetime | str) -> str:
    return moment if isinstance(moment, str) else moment.isoformat()
