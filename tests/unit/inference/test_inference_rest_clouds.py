"""SageMaker and Vertex AI ask in their own words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.inference.rest.clouds import CloudSettings
from tests.unit.inference.rest_bench import VERTEX, RestBench

NAN = float("nan")
PREDICT = VERTEX.aip_predict_route
PARCEL = {
    "parcel_id": "p0",
    "shop": "shop-1",
    "courier": "courier-5",
    "pickup_at": "2026-05-04T13:00:00Z",
    "weight_kg": 2,
}
HEADER = "parcel_id,shop,courier,pickup_at,weight_kg"


@pytest.fixture
async def bench() -> AsyncIterator[RestBench]:
    bench = RestBench()
    async with bench.client:
        yield bench


async def invoke_csv(bench: RestBench, text: str, **headers: str) -> Any:
    told = {"content-type": "text/csv", **headers}
    return await bench.client.post("/invocations", content=text.encode(), headers=told)


async def test_vertex_sends_instances_and_gets_predictions(bench: RestBench) -> None:
    body = {"instances": [PARCEL, PARCEL | {"courier": "courier-6"}], "parameters": {"as_of": "2013-01-01T10:00:00Z"}}

    answer = await bench.client.post(PREDICT, json=body)

    assert answer.status_code == 200
    assert answer.json() == {"predictions": bench.probabilities([5, NAN, 2], [6, NAN, 2])}
    assert bench.records.added[0].as_of.ToJsonString() == "2013-01-01T10:00:00Z"
    assert "missing_features=2,stale_features=2" in answer.headers["x-slipway-prediction"]
    assert bench.records.added[0].prediction_id in answer.headers["x-slipway-prediction"]


@pytest.mark.parametrize(
    "instances",
    [
        [[1, None, 4], [0, 0, 0]],
        [{"features": [1, None, 4]}, {"features": [0, 0, 0]}],
        [{"features": [1, None, 4], "parcel_id": "a"}, {"features": [0, 0, 0], "parcel_id": "b"}],
    ],
)
@pytest.mark.parametrize("path", [PREDICT, "/invocations"])
async def test_an_instance_may_be_the_whole_vector(bench: RestBench, path: str, instances: list[Any]) -> None:
    answer = await bench.client.post(path, json={"instances": instances})

    assert answer.json() == {"predictions": bench.probabilities([1, NAN, 4], [0, 0, 0])}
    assert {record.entity_id for record in bench.records.added} <= {"", "a", "b"}


async def test_sagemaker_sends_rows_of_the_whole_vector_as_csv(bench: RestBench) -> None:
    in_json = await invoke_csv(bench, "1,,4\r\n0,nan,0\r\n")
    in_csv = await invoke_csv(bench, "1,,4\n0,NaN,0", accept="text/csv")

    expected = bench.probabilities([1, NAN, 4], [0, NAN, 0])
    assert in_json.json() == {"predictions": expected}
    assert in_csv.headers["content-type"].startswith("text/csv")
    assert [float(line) for line in in_csv.text.splitlines()] == expected
    assert "missing_features=2" in in_csv.headers["x-amzn-sagemaker-custom-attributes"]


async def test_csv_with_a_header_names_the_inputs(bench: RestBench) -> None:
    answer = await invoke_csv(
        bench, f"\ufeff{HEADER}\r\n" + 'p0,"a ""shop"", far",courier-5,2026-05-04T13:00:00Z,2.5\r\n'
    )

    assert answer.json() == {"predictions": bench.probabilities([5, NAN, 2.5])}
    assert list(bench.features.questions[0][0].columns[0]) == ['a "shop", far']


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected at least one row of CSV"),
        ("1,2\n", "row 0: expected a vector of 3 numbers, got 2"),
        ("1,2,3\n1,2\n", "row 1: expected a vector of 3 numbers, got 2"),
        ("1,2,3\n1,x,3\n", "input 'features': expected a number, got 'x'"),
        ("1,inf,3\n", "expected finite numbers that FP32 holds"),
        ("colour\nred\n", "input 'colour': unknown; expected parcel_id, shop"),
        ("shop,shop\na,b\n", "expected each input once, got 'shop' twice"),
        (f"{HEADER}\np0,shop-1\n", "row 0 below the header: expected 5 cells, got 2"),
        (f"{HEADER}\n", "expected 1 to 8 rows, got 0"),
        ("features\n1\n", "'features' is the whole vector"),
        ("shop\na\n", "tensor 'parcel_id': missing"),
        ('"1,2\n', "expected CSV in UTF-8"),
    ],
)
async def test_csv_that_is_no_table_of_the_model_s_inputs_is_refused(
    bench: RestBench, text: str, complaint: str
) -> None:
    answer = await invoke_csv(bench, text)

    assert answer.status_code == 400
    assert complaint in answer.json()["error"]
    assert bench.records.added == []


async def test_bytes_that_are_no_text_are_refused(bench: RestBench) -> None:
    answer = await bench.client.post("/invocations", content=b"\xff", headers={"content-type": "text/csv"})

    assert answer.status_code == 400 and "expected CSV in UTF-8" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "instances: missing"),
        ({"instances": []}, "instances: List should have at least 1 item"),
        ({"instances": [7]}, "instances.0: expected an object or a list, got 7"),
        ({"instances": [PARCEL, {"shop": "a"}]}, "instances.1: expected an object of courier, parcel_id"),
        ({"instances": [PARCEL, [1, 2, 3]]}, "instances.1: expected an object of courier, parcel_id"),
        ({"instances": [{}]}, "missing; expected"),
        ({"instances": [[1, 2]]}, "row 0: expected a vector of 3 numbers, got 2"),
        ({"instances": [{"features": 7}]}, "row 0: expected a vector of 3 numbers, got 7"),
        ({"instances": [[1, 2, [3]]]}, "tensor 'features'"),
        ({"instances": [PARCEL | {"weight_kg": "2"}]}, "tensor 'weight_kg': expected numbers or null in data, got '2'"),
        ({"instances": [PARCEL | {"shop": 7}]}, "tensor 'shop': expected text in data, got 7"),
        ({"instances": [PARCEL | {"colour": "red"}]}, "input 'colour': unknown"),
        ({"instances": [PARCEL], "parameters": {"as_of": "then"}}, "parameter as_of"),
    ],
)
@pytest.mark.parametrize("path", [PREDICT, "/invocations"])
async def test_instances_that_do_not_fit_the_model_are_refused(
    bench: RestBench, path: str, body: dict[str, Any], complaint: str
) -> None:
    answer = await bench.client.post(path, json=body)

    assert answer.status_code == 400
    assert complaint in answer.json()["error"]
    assert bench.records.added == []


async def test_sagemaker_names_the_type_of_what_it_sends(bench: RestBench) -> None:
    answer = await bench.client.post("/invocations", content=b"<x/>", headers={"content-type": "application/xml"})

    assert answer.status_code == 415
    assert "content-type: expected application/json or text/csv, got 'application/xml'" in answer.json()["error"]


async def test_without_a_version_nothing_is_predicted(bench: RestBench) -> None:
    bench.deployment.current = None

    assert (await bench.client.post(PREDICT, json={"instances": [PARCEL]})).status_code == 503
    assert bench.count("UNAVAILABLE") == 1


def test_the_port_is_ours_if_it_was_told_else_that_of_the_cloud_that_runs_us() -> None:
    vertex = CloudSettings(aip_http_port=8081)
    sagemaker = CloudSettings(sagemaker_serves=True)
    moved = CloudSettings(sagemaker_serves=True, sagemaker_bind_to_port=9000)

    assert [each.port(8106, own_is_told=False) for each in (CloudSettings(), vertex, sagemaker, moved)] == [
        8106,
        8081,
        8080,
        9000,
    ]
    assert [each.port(8106, own_is_told=True) for each in (vertex, sagemaker, moved)] == [8106] * 3


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE", "SAGEMAKER_BIND_TO_PORT"):
        monkeypatch.setenv(name, "")

    assert CloudSettings() == CloudSettings(aip_http_port=None, aip_health_route="", sagemaker_bind_to_port=8080)


@pytest.mark.parametrize("route", ["predict", "/a b", "/{model}"])
def test_a_route_that_is_no_path_is_refused(route: str) -> None:
    with pytest.raises(ValueError, match="aip_predict_route"):
        CloudSettings(aip_predict_route=route)
