"""From events on Kafka to vectors over gRPC, against the oracle."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from feast import FeatureStore

from deploy.local import parts, probes
from services.chassis.clock import from_proto
from services.contracts.features.v1 import features_pb2
from services.features.feast_registry import feast_config
from tests.integration.features.platform import (
    MISSING,
    PRESENT,
    SERVICE,
    STALE,
    Platform,
    Row,
    metric,
    request_of,
    waiting_for,
)
from tests.problems.parcels.upstream import COURIERS, SHOPS, START, parcels
from tests.support import PARCELS, eventually, free_port
from tests.support.process import start_process

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
END = START + 3 * DAY


def _rows(*moments: datetime) -> list[Row]:
    return [
        Row(f"shop-{number % SHOPS}", f"courier-{number % COURIERS}", moment) for number, moment in enumerate(moments)
    ]


def _publish_days(platform: Platform, days: int) -> None:
    """With a watermark after each day."""
    events = parcels(until=START + days * DAY)
    for day in range(1, days + 1):
        since, until = START + (day - 1) * DAY, START + day * DAY
        platform.publish(event for event in events if since <= event.recorded_at < until)
        platform.watermark(until)


def test_vectors_are_what_the_semantics_say_as_of_any_moment_of_the_history(platform: Platform):
    _publish_days(platform, 3)
    with platform.stream() as stream, platform.serve():
        eventually(lambda: platform.reached(END), "all is worked in")
        platform.assert_right(_rows(*(END - 0.7 * HOUR * number for number in range(34))))
        platform.assert_right(_rows(*(END + 2.1 * HOUR * number for number in range(60))))

        delivered = platform.types["parcel.delivered"]
        by_courier = [event for event in delivered if event.payload["courier"] is not None]
        of_view = partial(metric, stream, "slipway_features_events_total", view="courier_recent")
        assert of_view(outcome="counted") == len(by_courier)
        assert of_view(outcome="no_key") == len(delivered) - len(by_courier)
        assert metric(stream, "slipway_features_watermark_seconds") == END.timestamp()

        copies = [event for event in parcels(until=END) if END - 6 * HOUR < event.recorded_at < END]
        platform.publish(copies, again=True)
        eventually(lambda: of_view(outcome="duplicate"), "copies came")
        eventually(lambda: metric(stream, "slipway_features_lag_records") == 0, "nothing waits")
        assert of_view(outcome="counted") == len(by_courier)
        platform.assert_right(_rows(*(END - 0.7 * HOUR * number for number in range(34))))


def test_answers_and_refusals_over_grpc(platform: Platform):
    _publish_days(platform, 3)
    quiet = END + 2 * DAY
    with platform.stream(), platform.serve() as serve, platform.channel() as channel:
        stub = platform.stub(channel)
        eventually(lambda: platform.reached(END), "all is worked in")

        schema = stub.GetFeatureServiceSchema(
            features_pb2.GetFeatureServiceSchemaRequest(feature_service=SERVICE), timeout=10
        )
        assert {field.name: field.data_type for field in (*schema.join_keys, *schema.request_fields)} == {
            "courier": features_pb2.DATA_TYPE_STRING,
            "shop": features_pb2.DATA_TYPE_STRING,
            "pickup_at": features_pb2.DATA_TYPE_TIMESTAMP,
            "weight_kg": features_pb2.DATA_TYPE_DOUBLE,
        }
        assert list(schema.features) == [feature.name for feature in platform.plan.features]
        watermark = stub.GetWatermark(features_pb2.GetWatermarkRequest(), timeout=10).watermark
        assert from_proto(watermark) == END

        # An idle courier's count is zero and stale, a nobody's is missing; the on-demand features are there.
        found = platform.vectors([Row("shop-1", "courier-1", quiet), Row("", "courier-99", quiet)])
        names = [feature.name for feature in platform.plan.features]
        count, hour = names.index("courier_recent__delivered_1h"), names.index("parcel_request__pickup_hour")
        assert (found.values[0, count], found.statuses[0, count]) == (0.0, STALE)
        assert np.isnan(found.values[1, count]) and found.statuses[1, count] == MISSING
        assert found.values[:, hour].tolist() == [15.0, 15.0] and (found.statuses[:, hour] == PRESENT).all()
        assert found.watermark == END
        assert metric(serve, "slipway_features_missing_total", feature="courier_recent__delivered_1h") == 1
        assert metric(serve, "slipway_features_stale_total", feature="courier_recent__delivered_1h") == 1

        refusals = {
            grpc.StatusCode.OUT_OF_RANGE: request_of(_rows(END - 25 * HOUR)),
            grpc.StatusCode.INVALID_ARGUMENT: request_of(_rows(END), weight_kg={"strings": ["1"]}),
            grpc.StatusCode.NOT_FOUND: features_pb2.GetVectorsRequest(feature_service="nothing"),
        }
        for code, request in refusals.items():
            with pytest.raises(grpc.RpcError) as refused:
                stub.GetVectors(request, timeout=10)
            assert refused.value.code() is code


def test_what_upstream_repeats_after_days_counts_once_and_what_comes_days_late_counts(platform: Platform):
    days, hour = 4, START + 100 * HOUR
    events = parcels(until=START + days * DAY)
    delivered = [event for event in events if event.type == "parcel.delivered"]
    of_day_two = [event for event in delivered if START + 30 * HOUR < event.recorded_at < START + 40 * HOUR]
    late, repeated = of_day_two[::3], of_day_two[1::3]
    assert late and repeated
    rows = _rows(*(hour - 0.3 * HOUR * number for number in range(20)))
    platform.publish(event for event in events if event not in late)
    platform.watermark(START + days * DAY)
    with platform.stream() as stream, platform.serve():
        counted = partial(metric, stream, "slipway_features_events_total", view="shop_days", outcome="counted")
        eventually(lambda: platform.reached(START + days * DAY), "four days are worked in")
        # The state of every shop goes on, so that day two lies in tiles.
        platform.publish(late, known=START + 97 * HOUR)
        platform.watermark(START + 97 * HOUR)
        eventually(lambda: platform.reached(START + 97 * HOUR), "what is two days late is worked in")
        assert counted() == len(delivered)
        platform.publish(repeated, again=True, known=START + 98 * HOUR)
        platform.watermark(START + 98 * HOUR)
        eventually(lambda: platform.reached(START + 98 * HOUR), "copies are worked in")
        assert counted() == len(delivered)
        assert metric(stream, "slipway_features_events_total", outcome="too_late") == 0
        platform.assert_right(rows)

    with platform.stream() as stream, platform.serve():
        platform.publish(late, again=True, known=START + 99 * HOUR)
        platform.watermark(START + 99 * HOUR)
        eventually(lambda: platform.reached(START + 99 * HOUR), "copies of what was late are worked in")
        assert metric(stream, "slipway_features_events_total", outcome="counted") == 0
        with platform.store() as client:
            assert {len(client.get(key)) % 8 for key in client.keys("slipway:parcels:ids:*")} == {0}
            client.flushall()
        eventually(lambda: platform.reached(START + 99 * HOUR), "all is worked in again")
        platform.assert_right(rows)


def test_stock_feast_reads_what_the_stream_wrote(platform: Platform):
    _publish_days(platform, 1)
    with platform.stream(), platform.serve():
        eventually(lambda: platform.reached(START + DAY), "all is worked in")

    store = FeatureStore(config=feast_config(PARCELS, Path(platform.env["SLIPWAY_REGISTRY"]), platform.redis))
    answer = store.get_online_features(
        [f"courier_recent:{name}" for name in ("delivered_1h", "delay_mean_6h", "delay_last")]
        + ["shop_days:late_share_3d", "pair_days:late_sum_3d"],
        [{"shop": "shop-2", "courier": "courier-3"}],
        full_feature_names=True,
    ).to_dict()

    last = {"courier_recent": None, "shop_days": None, "pair_days": None}
    for event in platform.types["parcel.delivered"]:
        is_courier, is_shop = event.payload["courier"] == "courier-3", event.payload["shop"] == "shop-2"
        for view, hit in {
            "courier_recent": is_courier,
            "shop_days": is_shop,
            "pair_days": is_courier and is_shop,
        }.items():
            if hit:
                last[view] = max(last[view] or 0, event.available_at_us)
    for name, (value,) in answer.items():
        view, _, feature = name.partition("__")
        if feature:
            moment = START + timedelta(microseconds=last[view] - int(START.timestamp() * 1e6))
            expected = platform.expected(Row("shop-2", "courier-3", moment))[name].value
            assert value == pytest.approx(expected), name
    assert answer["courier_recent__delivered_1h"][0] >= 1


def test_a_stream_killed_in_its_backlog_ends_with_the_values_of_one_that_was_not(platform: Platform):
    days = 12
    _publish_days(platform, days)
    end = START + days * DAY
    killed = 0
    while not platform.reached(end):
        begun = platform.stored_watermark()
        with platform.stream(ready=False) as stream:
            eventually(lambda was=begun: platform.stored_watermark() > was, "some days are worked in")
            if not platform.reached(end):
                stream.kill()
                killed += 1
    assert killed
    with platform.stream() as stream, platform.serve():
        eventually(lambda: metric(stream, "slipway_features_lag_records") == 0, "nothing waits")
        platform.assert_right(_rows(*(end - 0.7 * HOUR * number for number in range(34))))


def test_a_flushed_redis_is_filled_again(platform: Platform):
    _publish_days(platform, 2)
    end = START + 2 * DAY
    rows = _rows(*(end - 0.7 * HOUR * number for number in range(12)))
    with platform.stream() as stream, platform.serve():
        eventually(lambda: platform.reached(end), "all is worked in")
        with platform.store() as client:
            client.flushall()
        # Nothing comes; it looks by itself.
        eventually(lambda: platform.reached(end), "all is worked in again")
        assert "online_store_behind_offsets" in stream.output
        platform.assert_right(rows)

    with platform.store() as client:
        client.flushall()
    with platform.stream(), platform.serve():
        eventually(lambda: platform.reached(end), "all is worked in a third time")
        platform.assert_right(rows)


def test_changed_definitions_are_filled_from_the_beginning_and_leave_the_others_alone(
    platform: Platform, tmp_path: Path
):
    _publish_days(platform, 2)
    end = START + 2 * DAY
    with platform.stream():
        eventually(lambda: platform.reached(end), "all is worked in")
    changed = Path(shutil.copytree(PARCELS, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__")))
    features = (changed / "features.py").read_text()
    for name in ("late_share_3d", "delay_std_3d"):
        features = features.replace(f'3 * DAY, HOUR, name="{name}"', f'2 * DAY, HOUR, name="{name}"')
    (changed / "features.py").write_text(features)
    other = dataclasses.replace(platform, env=platform.env | {"SLIPWAY_FEATURE_REPO": str(changed)})

    with other.stream() as stream, other.serve():
        eventually(lambda: other.reached(end), "all is worked in")
        assert "definitions_changed" in stream.output
        other.assert_right(_rows(*(end - 0.7 * HOUR * number for number in range(12))))
        of_outcome = partial(metric, stream, "slipway_features_events_total", outcome="counted")
        assert of_outcome(view="shop_days") == len(platform.types["parcel.delivered"])
        assert of_outcome(view="courier_recent") == 0


def test_while_redis_is_gone_it_is_named_and_afterwards_it_goes_on(platform: Platform, tmp_path: Path):
    port = free_port()
    command = parts.redis_command(tmp_path, port)
    here = dataclasses.replace(
        platform, redis=f"127.0.0.1:{port}", env=platform.env | {"SLIPWAY_REDIS": f"127.0.0.1:{port}"}
    )
    redis = start_process(command, env={}, ops_port=0)
    redis.wait_ready(probes.redis_pong(port), 20)
    try:
        with here.stream() as stream, here.serve() as serve:
            _publish_days(here, 1)
            eventually(lambda: here.reached(START + DAY), "the first day is worked in")
            redis.kill()
            with pytest.raises(grpc.RpcError) as refused:
                here.vectors(_rows(START + DAY))
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert f"Redis at 127.0.0.1:{port}" in refused.value.details()
            for process in (stream, serve):
                eventually(lambda p=process: "redis" in waiting_for(p), "/ready says that Redis is gone")

            here.watermark(START + DAY + HOUR)
            redis = start_process(command, env={}, ops_port=0)
            redis.wait_ready(probes.redis_pong(port), 20)
            eventually(lambda: here.reached(START + DAY + HOUR), "the watermark follows")
            for process in (stream, serve):
                eventually(lambda p=process: not waiting_for(p), "/ready says yes")
            here.assert_right(_rows(START + DAY))
    finally:
        redis.kill()
