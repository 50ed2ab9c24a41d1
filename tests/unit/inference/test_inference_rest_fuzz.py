"""Whatever comes over HTTP, the answer is one of the protocol: never a 500, never an error of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from httpx import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.inference.rest_bench import INFER, VERTEX, RestBench, entity_body, vector_body

EXPECTED = {200, 400, 413, 415, 429, 503, 504}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_WORDS = st.sampled_from(
    ["inputs", "outputs", "parameters", "id", "name", "datatype", "shape", "data", "binary_data_size", "binary_data"]
)
_VALID = st.sampled_from(
    [
        entity_body(),
        entity_body(2, id="x", outputs=[{"name": "probability"}], parameters={"as_of": "2026-05-04T12:00:00Z"}),
        vector_body(data=[1, None, 3]),
        {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}]},
        {"instances": [[1, 2, 3]]},
        {"instances": [{"features": [1, 2, 3]}], "parameters": {"timeout": 1_000_000}},
    ]
)


@st.composite
def _mutated(draw: st.DrawFn) -> Any:
    """A valid body with one place of it replaced, removed, or given another key."""
    body = json.loads(json.dumps(draw(_VALID)))
    places = list(_places(body))
    container, key = draw(st.sampled_from(places))
    what = draw(st.sampled_from(["replace", "remove", "add"]))
    if what == "remove":
        del container[key]
    elif what == "add" and isinstance(container, dict):
        container[draw(_WORDS)] = draw(_JSON)
    else:
        container[key] = draw(_JSON)
    return body


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


_BODIES = st.one_of(
    _mutated().map(lambda body: json.dumps(body).encode()),
    _JSON.map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=200),
    st.text(alphabet='0123456789.,"\nnaif ', max_size=60).map(str.encode),
)
_HEADERS = st.fixed_dictionaries(
    {"content-type": st.sampled_from(["application/json", "text/csv", "text/plain", ""])},
    optional={
        "inference-header-content-length": st.integers(0, 400).map(str) | st.text("0123456789-e ", max_size=4),
        "content-encoding": st.sampled_from(["gzip", "deflate", "identity", "br"]),
        "accept": st.sampled_from(["text/csv", "*/*"]),
        "x-slipway-weight": st.text("0123456789x", max_size=6),
        "x-slipway-variant": st.sampled_from(["champion", "other"]),
        "x-envoy-expected-rq-timeout-ms": st.sampled_from(["0", "15000", "x"]),
    },
)
_PATHS = st.sampled_from([INFER, "/invocations", VERTEX.aip_predict_route])


class Served:
    """One application for all examples, in one event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._client = RestBench().client

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Response:
        return self._runner.run(self._client.post(path, content=body, headers=headers))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with asyncio.Runner() as runner:
        yield Served(runner)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=_PATHS, body=_BODIES, tail=st.binary(max_size=16), headers=_HEADERS)
def test_any_request_is_answered_as_the_protocol_says(
    served: Served, path: str, body: bytes, tail: bytes, headers: dict[str, str]
) -> None:
    answer = served.post(path, body + tail, headers)

    assert answer.status_code in EXPECTED
    if answer.status_code != 200:
        assert isinstance(answer.json()["error"], str)
