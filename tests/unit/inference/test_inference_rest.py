"""The Open Inference Protocol in REST: JSON, binary data, metadata, errors."""

from __future__ import annotations

import asyncio
import gzip
import math
import re
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message

from services.chassis.errors import Unavailable
from services.inference.rest.bodies import MAX_BODY_BYTES, TooSlow, read_body
from services.inference.rest.caller import http_status_of
from tests.support.tiny_models import FEATURES, logistic_onnx, moody_onnx
from tests.unit.inference.fakes import MODEL, make_model
from tests.unit.inference.rest_bench import INFER, RestBench, entity_body, vector_body

NAN = float("nan")
BINARY_OUTPUT = {"parameters": {"binary_data_output": True}}


@pytest.fixture
async def bench() -> AsyncIterator[RestBench]:
    bench = RestBench()
    async with bench.client:
        yield bench


def binary_input(size: int, **changes: Any) -> dict[str, Any]:
    return {
        "name": "features",
        "datatype": "FP32",
        "shape": [1, 3],
        "parameters": {"binary_data_size": size},
    } | changes


async def test_an_entity_call_in_json_is_answered_in_json(bench: RestBench) -> None:
    answer = await bench.infer(entity_body(2, id="call-1"))

    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "model_name": MODEL,
        "model_version": "7",
        "id": "call-1",
        "parameters": {
            "prediction_id": "call-1-0",
            "variant": "champion",
            "missing_features": 2,
            "missing_feature_names": FEATURES[1],
            "stale_features": 2,
            "stale_feature_names": FEATURES[2],
            "watermark": "2026-05-04T11:59:00Z",
        },
        "outputs": [
            {
                "name": "probability",
                "datatype": "FP32",
                "shape": [2],
                "data": bench.probabilities([0, NAN, 1], [1, NAN, 2]),
            }
        ],
    }
    assert [record.prediction_id for record in bench.records.added] == ["call-1-0", "call-1-1"]


async def test_binary_tensors_in_and_out(bench: RestBench) -> None:
    answer = await bench.infer_binary(
        {"inputs": [binary_input(12)], **BINARY_OUTPUT}, struct.pack("<3f", 1.0, NAN, 4.0)
    )

    assert answer.status_code == 200 and answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    assert b'"parameters":{"binary_data_size":4}' in answer.content[:length]
    assert list(struct.unpack("<f", answer.content[length:])) == bench.probabilities([1, NAN, 4])


async def test_json_and_binary_tensors_may_come_together_and_an_output_says_how_it_wants_to_go(
    bench: RestBench,
) -> None:
    body = entity_body(2, outputs=[{"name": "probability", "parameters": {"binary_data": False}}], **BINARY_OUTPUT)
    for name, size in (("courier", 26), ("weight_kg", 16)):
        tensor = next(tensor for tensor in body["inputs"] if tensor["name"] == name)
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": size}
    couriers = b"".join(struct.pack("<I", 9) + name for name in (b"courier-3", b"courier-4"))

    answer = await bench.infer_binary(body, couriers, struct.pack("<2d", 5.0, 6.0))

    assert answer.json()["outputs"][0]["data"] == bench.probabilities([3, NAN, 5], [4, NAN, 6])


@pytest.mark.parametrize("data", [[1, None, 4, 0, 0, 0], [[1.0, None, 4], [0, 0, 0]]])
async def test_data_is_flat_or_nested_and_null_is_a_missing_number(bench: RestBench, data: list[Any]) -> None:
    answer = await bench.infer(vector_body(data=data, shape=[2, 3]))

    assert answer.json()["outputs"][0]["data"] == bench.probabilities([1, NAN, 4], [0, 0, 0])
    assert answer.json()["parameters"]["missing_features"] == 1


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_body_may_come_compressed(bench: RestBench, encoding: str, compress: Any) -> None:
    head = b'{"inputs":[{"name":"features","datatype":"FP32","shape":[1,3],"parameters":{"binary_data_size":12}}]}'
    headers = {"content-encoding": encoding, "inference-header-content-length": str(len(head))}

    answer = await bench.client.post(INFER, content=compress(head + struct.pack("<3f", 0, 0, 0)), headers=headers)

    assert answer.json()["outputs"][0]["data"] == [0.5]


async def test_calls_with_the_same_json_keep_their_own_data(bench: RestBench) -> None:
    head = {"inputs": [binary_input(12)]}

    answers = [await bench.infer_binary(head, struct.pack("<3f", number, 0, 0)) for number in (1, 2, 1)]
    too_short = await bench.infer_binary(head, b"short")

    found = [answer.json()["outputs"][0]["data"] for answer in answers]
    assert found == [bench.probabilities([number, 0, 0]) for number in (1, 2, 1)]
    assert too_short.status_code == 400


async def test_calls_that_arrive_together_get_each_their_own_answer_or_error(bench: RestBench) -> None:
    bodies = [vector_body(data=[number, 0, 0]) for number in range(6)]
    bodies[3]["inputs"][0]["shape"] = [3]
    bench.deployment.previous = make_model("6", logistic_onnx(bias=1.0))

    answers = await asyncio.gather(
        *[bench.infer(body) for body in bodies],
        bench.client.post(f"/v2/models/{MODEL}/versions/6/infer", json=bodies[0]),
        bench.infer(entity_body()),
    )

    found = [answer.json().get("outputs", [{"data": None}])[0]["data"] for answer in answers]
    expected = [None if number == 3 else bench.probabilities([number, 0, 0]) for number in range(6)]
    assert found[:6] == expected
    assert found[6] == [pytest.approx(1 / (1 + math.exp(-1)))]
    assert found[7] == bench.probabilities([0, NAN, 1])
    assert len(bench.records.added) == 7


async def test_of_calls_that_arrive_together_only_those_fail_that_the_model_fails_on(bench: RestBench) -> None:
    bench.deployment.current = make_model("7", moody_onnx(mood=42))

    answers = await asyncio.gather(*[bench.infer(vector_body(data=[mood, 2, 0])) for mood in (1, 42, 3)])

    assert [answer.status_code for answer in answers] == [200, 409, 200]
    assert "gives 2.0 for row 0, expected a probability in [0, 1]" in answers[1].json()["error"]
    assert [answers[at].json()["outputs"][0]["data"] for at in (0, 2)] == [[0.5], [0.5]]


async def test_headers_tell_the_assignment(bench: RestBench) -> None:
    answer = await bench.infer(
        entity_body(),
        x_slipway_variant="challenger",
        x_slipway_release="r9",
        x_slipway_weight="500",
        x_routing_key="someone",
    )

    record = bench.records.added[0]
    assert (record.variant, record.release_id, record.routing_key) == ("challenger", "r9", "someone")
    assert record.assignment_probability == 0.05
    assert answer.json()["parameters"]["variant"] == "challenger"


async def test_the_moment_is_a_parameter_and_the_version_is_in_the_path(bench: RestBench) -> None:
    body = entity_body(parameters={"as_of": "2013-01-01T10:00:00Z", "priority": 1, "share": 0.5, "dry": True})

    answer = await bench.client.post(f"/v2/models/{MODEL}/versions/7/infer", json=body)

    assert answer.status_code == 200
    assert bench.records.added[0].as_of.ToJsonString() == "2013-01-01T10:00:00Z"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"data": [1, 2]}, "tensor 'features': expected 3 elements in data for shape [1, 3], got 2"),
        ({"data": [[1, 2], [3]]}, "tensor 'features': expected data flat or nested as shape [1, 3], got ragged lists"),
        ({"data": [[1], [2], [3]]}, "got lists of [3, 1]"),
        ({"data": [1, "2", 3]}, "tensor 'features': expected numbers or null in data, got '2'"),
        ({"data": [1, True, 3]}, "tensor 'features': expected numbers or null in data, got True"),
        (
            {"data": [1, 1e39, 3]},
            "expected finite numbers that FP32 holds, or null for a missing one, in data, got 1e+39",
        ),
        ({"data": [1, 10**400, 3]}, "expected numbers that FP32 holds in data, got larger ones"),
        ({"shape": [1, 4], "data": [1, 2, 3, 4]}, "tensor 'features': expected shape [N, 3], got [1, 4]"),
        ({"shape": [9, 3], "data": [0] * 27}, "tensor 'features': expected 1 to 8 rows, got 9"),
        ({"shape": [-1, 3]}, "inputs.0.shape.0: Input should be greater than or equal to 0, got -1"),
        ({"shape": [1] * 17}, "inputs.0.shape: List should have at most 16 items"),
        ({"shape": [1.0, 3]}, "inputs.0.shape.0: Input should be a valid integer, got 1.0"),
        ({"datatype": "FP128"}, "tensor 'features': expected one of the datatypes BOOL, INT8"),
        ({"datatype": "FP64"}, "tensor 'features': expected datatype FP32, got 'FP64'"),
        ({"datatype": "INT8", "data": [1, 2, 300]}, "expected numbers that INT8 holds in data, got larger ones"),
        ({"datatype": "INT64", "data": [1, 2, 3.0]}, "tensor 'features': expected whole numbers in data, got 3.0"),
        ({"datatype": "BOOL", "data": [0, 1, 0]}, "tensor 'features': expected true or false in data, got 0"),
        ({"datatype": "BYTES"}, "tensor 'features': expected text in data, got 1"),
        ({"name": "colour"}, "tensor 'colour'"),
        ({"data": None}, "tensor 'features': expected data or the parameter binary_data_size, got neither"),
        ({"parameters": {"binary_data_size": 12}}, "tensor 'features': expected data or binary_data_size, got both"),
        ({"parameters": {"x": None}}, "inputs.0.parameters.x"),
        ({"parameters": {"x": 2**64}}, "tensor 'features': parameter 'x': expected at most 64 bits"),
    ],
)
async def test_a_bad_tensor_is_refused_by_its_name_and_not_recorded(
    bench: RestBench, change: dict[str, Any], complaint: str
) -> None:
    answer = await bench.infer(vector_body(**change))

    assert (answer.status_code, bench.count("INVALID_ARGUMENT")) == (400, 1)
    assert complaint in answer.json()["error"]
    assert bench.records.added == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "body: Invalid JSON"),
        (b"[]", "body: Input should be an object"),
        (b"{}", "inputs: missing"),
        (b'{"inputs": [{"name": "x"}]}', "inputs.0.datatype: missing"),
        (b'{"inputs": [], "id": 7}', "id: Input should be a valid string, got 7"),
        (b'{"inputs": []}', "missing; expected"),
        (b'{"inputs": [], "parameters": {"timeout": -1}}', "parameter timeout: expected microseconds"),
        (b'{"inputs": [], "parameters": {"x": Infinity}}', "parameters.x"),
        (b'{"inputs":[{"name":"features","datatype":"FP32","shape":[1,3],"data":[1,NaN,3]}]}', "or null for a missing"),
        (b'{"inputs":[{"name":"features","datatype":"FP32","shape":[1,3],"data":[1,1e999,3]}]}', "or null for a"),
        (b"[" * 100_000, "recursion limit exceeded"),
        (b'{"id": "\\ud800", "inputs": []}', "body: Invalid JSON"),
        (b'{"id": "\xff", "inputs": []}', "body: Invalid JSON"),
    ],
)
async def test_a_bad_body_is_refused_by_the_field(bench: RestBench, body: bytes, complaint: str) -> None:
    answer = await bench.client.post(INFER, content=body)

    assert answer.status_code == 400
    assert complaint in answer.json()["error"]


@pytest.mark.parametrize(
    ("tensor", "content", "complaint"),
    [
        (binary_input(12), b"\0" * 11, "expected 12 bytes of binary data by the tensors' binary_data_size, got 11"),
        (binary_input(8), b"\0" * 8, "expected 12 bytes of binary data for FP32 of shape [1, 3], got 8"),
        (
            binary_input(12),
            b"\0" * 13,
            "expected 12 bytes of binary data by the tensors' binary_data_size, got 13",
        ),
        (binary_input(-1), b"", "expected binary_data_size to be a whole number from 0, got -1"),
        (binary_input(True), b"\0" * 12, "got True"),
        (binary_input(12, data=[1, 2, 3]), b"\0" * 12, "got both"),
        (binary_input(7, name="shop", datatype="BYTES", shape=[1]), b"\x04\0\0\0abc", "tensor 'shop'"),
    ],
)
async def test_binary_data_that_is_not_what_the_json_says_is_refused(
    bench: RestBench, tensor: dict[str, Any], content: bytes, complaint: str
) -> None:
    answer = await bench.infer_binary({"inputs": [tensor]}, content)

    assert answer.status_code == 400
    assert complaint in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "1e2", "9999999999999999", "²", "", "200"])
async def test_a_header_length_that_the_body_does_not_have_is_refused(bench: RestBench, length: str) -> None:
    answer = await bench.client.post(
        INFER, content=b'{"inputs":[]}', headers={"inference-header-content-length": length.encode()}
    )

    assert answer.status_code == 400
    assert "inference-header-content-length: expected at most the body's 13 bytes" in answer.json()["error"]


async def test_a_body_has_a_bound_compressed_or_not(bench: RestBench) -> None:
    plain = await bench.client.post(INFER, content=b" " * (MAX_BODY_BYTES + 1))
    bomb = gzip.compress(b" " * (MAX_BODY_BYTES + 1))
    packed = await bench.client.post(INFER, content=bomb, headers={"content-encoding": "gzip"})

    assert (plain.status_code, packed.status_code) == (413, 413)
    assert f"at most {MAX_BODY_BYTES} bytes" in plain.json()["error"]
    assert "when decompressed" in packed.json()["error"]


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", b"{}", 415),
        ("gzip", b"{}", 400),
        ("gzip", gzip.compress(b"{}")[:-1], 400),
        ("deflate", zlib.compress(b"{}") + b"more", 400),
    ],
)
async def test_a_body_that_does_not_decompress_is_refused(
    bench: RestBench, encoding: str, body: bytes, status: int
) -> None:
    answer = await bench.client.post(INFER, content=body, headers={"content-encoding": encoding})

    assert answer.status_code == status
    assert encoding in answer.json()["error"]


async def test_every_cause_has_its_status(bench: RestBench) -> None:
    found: dict[str, tuple[int, str]] = {}

    async def ask(what: str, path: str = INFER, **headers: str) -> None:
        answer = await bench.client.post(path, json=entity_body(), headers=headers)
        found[what] = answer.status_code, answer.json()["error"]

    await ask("model", "/v2/models/other/infer")
    await ask("version", f"/v2/models/{MODEL}/versions/8/infer")
    status, told = found.pop("version")
    assert status == 404 and f"version '8' of '{MODEL}' is not loaded" in told
    await ask("weight", **{"x-slipway-weight": "0"})
    await ask("late", **{"x-envoy-expected-rq-timeout-ms": "0"})
    bench.records.full = True
    await ask("full")
    bench.records.full = False
    bench.features.failures["courier-0"] = Unavailable("features service is down")
    await ask("features")
    bench.deployment.current, bench.deployment.detail = None, "no alias yet"
    await ask("nothing")

    assert found == {
        "model": (404, f"model 'other' is not served here; expected '{MODEL}'"),
        "weight": (400, "metadata x-slipway-weight: expected basis points from 1 to 10000, got '0'"),
        "late": (504, "the call's deadline has passed"),
        "full": (429, "full"),
        "features": (503, "features service is down"),
        "nothing": (503, f"no version of '{MODEL}' is loaded as champion: no alias yet"),
    }
    assert (bench.count("NOT_FOUND"), bench.count("UNAVAILABLE"), bench.count("OK")) == (2, 2, 0)


async def test_an_error_of_ours_tells_nothing_of_itself_and_is_counted(bench: RestBench) -> None:
    bench.features.failures["courier-0"] = RuntimeError("secret")

    answer = await bench.infer(entity_body())

    assert (answer.status_code, bench.count("INTERNAL")) == (500, 1)
    assert answer.json() == {"error": "internal error; the server's log has the details"}


async def test_a_call_that_the_end_of_the_process_cuts_off_may_be_asked_again(bench: RestBench) -> None:
    bench.features.allowed.clear()
    asking = asyncio.create_task(bench.infer(entity_body()))
    await bench.features.asked.wait()

    asking.cancel()
    answer = await asking

    assert (answer.status_code, bench.count("UNAVAILABLE")) == (503, 1)
    assert "the process ends" in answer.json()["error"] and bench.records.added == []


async def test_a_body_that_does_not_come_is_waited_for_no_longer_than_that() -> None:
    with pytest.raises(TooSlow, match=re.escape("body: expected within 0.01 s")):
        await read_body(asyncio.Event().wait, {}, within_s=0.01)
    assert http_status_of(TooSlow("")) == 408


async def test_nobody_is_answered_who_went_away_before_the_end_of_the_question(bench: RestBench) -> None:
    messages: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await bench.api({"type": "http", "method": "POST", "path": INFER, "headers": []}, receive, send)

    assert (sent, bench.count("CANCELLED")) == ([], 1)


async def test_an_unknown_path_and_method_are_answered_in_the_protocol_s_form(bench: RestBench) -> None:
    path, method = await bench.client.get("/v2/nothing"), await bench.client.get(INFER)

    assert (path.status_code, path.json()) == (404, {"error": "GET /v2/nothing: Not Found"})
    assert (method.status_code, method.json()) == (405, {"error": f"GET {INFER}: expected POST"})


async def test_a_stranger_learns_what_is_served(bench: RestBench) -> None:
    server = (await bench.client.get("/v2")).json()
    model = (await bench.client.get(f"/v2/models/{MODEL}")).json()
    version = await bench.client.get(f"/v2/models/{MODEL}/versions/7")

    assert server["name"] == "slipway-inference" and "binary_tensor_data" in server["extensions"]
    assert model == version.json()
    assert (model["name"], model["versions"], model["platform"]) == (MODEL, ["7"], "onnxruntime_onnx")
    assert [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in model["inputs"]] == [
        ("parcel_id", "BYTES", [-1]),
        ("shop", "BYTES", [-1]),
        ("courier", "BYTES", [-1]),
        ("pickup_at", "BYTES", [-1]),
        ("weight_kg", "FP64", [-1]),
    ]
    assert model["outputs"] == [{"name": "probability", "datatype": "FP32", "shape": [-1]}]
    assert (await bench.client.get(f"/v2/models/{MODEL}/versions/8")).status_code == 404


async def test_the_repository_lists_what_is_loaded_and_what_is_wanted(bench: RestBench) -> None:
    bench.deployment.wanted, bench.deployment.detail = "8", "version 8 was refused"
    serves = {"name": MODEL, "version": "7", "state": "READY", "reason": ""}
    wanted = {"name": MODEL, "version": "8", "state": "UNAVAILABLE", "reason": "version 8 was refused"}

    whole = await bench.client.post("/v2/repository/index")
    ready = await bench.client.post("/v2/repository/index", json={"ready": True})

    assert (whole.json(), ready.json()) == ([serves, wanted], [serves])


async def test_the_repository_looks_at_the_alias_and_lets_go_when_it_is_told(bench: RestBench) -> None:
    async def ask(what: str, model: str = MODEL, **parameters: Any) -> int:
        path = f"/v2/repository/models/{model}/{what}"
        return (await bench.client.post(path, json={"parameters": parameters})).status_code

    assert [await ask("load"), await ask("unload", unload_dependents=False), await ask("unload", version="6")] == [
        200
    ] * 3
    assert bench.deployment.told == ["load", "unload ", "unload 6"]
    assert [await ask("load", "other"), await ask("unload", "other")] == [404, 404]
    refused = [await ask("load", config="{}"), await ask("unload", version=6), await ask("unload", force=True)]
    assert refused == [400] * 3
    assert len(bench.deployment.told) == 3


async def test_ready_is_who_has_a_version_and_goes_on(bench: RestBench) -> None:
    async def ready() -> list[int]:
        paths = ("/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}/ready", "/ping", "/vertex/health")
        return [(await bench.client.get(path)).status_code for path in paths]

    assert await ready() == [200] * 5
    bench.stopping = True
    assert await ready() == [200, 400, 200, 503, 503]
    bench.stopping = False
    bench.deployment.current = None
    assert await ready() == [200, 400, 400, 503, 503]
    assert (await bench.client.get("/v2/models/other/ready")).status_code == 404


async def test_the_documentation_loads_nothing_from_elsewhere(bench: RestBench) -> None:
    page = (await bench.client.get("/docs")).text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)

    assert loaded
    assert [url for url in loaded if not url.startswith("/")] == []
    assert {(await bench.client.get(url)).status_code for url in loaded} == {200}
    assert "http" not in re.sub(r"window\.location\.origin", "", page)


async def test_the_schema_describes_every_path(bench: RestBench) -> None:
    paths = (await bench.client.get("/openapi.json")).json()["paths"]

    assert {"/v2", "/v2/models/{model}/infer", "/v2/repository/index", "/ping", "/invocations"} <= set(paths)
    infer = paths["/v2/models/{model}/versions/{version}/infer"]["post"]
    assert [parameter["name"] for parameter in infer["parameters"]] == ["model", "version"]
    assert infer["requestBody"]["content"]["application/json"]["schema"]["required"] == ["inputs"]
