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

Ask = tuple[str, bytes, dict[str, str]]
"""Path, body, headers."""

EXPECTED = {200, 400, 413, 415, 429, 503, 504}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_WORDS = st.sampled_from(
    ["inputs", "outputs", "parameters", "id", "name", "datatype", "shape", "data", "binary_data_size", "binary_data"]
)
_BINARY = {"name": "features", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
_CLOUDS = st.sampled_from(["/invocations", VERTEX.aip_predict_route])
_VALID = st.one_of(
    st.tuples(
        st.just(INFER),
        st.sampled_from(
            [
                entity_body(),
                entity_body(2, id="x", outputs=[{"name": "probability"}], parameters={"as_of": "2026-05-04T12:00:00Z"}),
                vector_body(data=[1, None, 3]),
                {"inputs": [_BINARY]},
            ]
        ),
    ),
    st.tuples(
        _CLOUDS,
        st.sampled_from(
            [{"instances": [[1, 2, 3]]}, {"instances": [{"features": [1, 2, 3]}], "parameters": {"timeout": 10**6}}]
        ),
    ),
)


@st.composite
def _nearly_right(draw: st.DrawFn) -> Ask:
    """A valid request with one place of its JSON replaced, removed, or given another key."""
    path, valid = draw(_VALID)
    body = json.loads(json.dumps(valid))
    container, key = draw(st.sampled_from(list(_places(body))))
    what = draw(st.sampled_from(["replace", "remove", "add"]))
    if what == "remove":
        del container[key]
    elif what == "add" and isinstance(container, dict):
        container[draw(_WORDS)] = draw(_JSON)
    else:
        container[key] = draw(_JSON)
    text = json.dumps(body).encode()
    if "binary_data_size" not in json.dumps(valid):
        return path, text, {"content-type": "application/json"}
    return path, text + draw(st.binary(min_size=12, max_size=12)), {"inference-header-content-length": str(len(text))}


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


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
_WILD: st.SearchStrategy[Ask] = st.tuples(
    st.just(INFER) | _CLOUDS, _JSON.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=200), _HEADERS
)
_CELL = st.sampled_from(["1", "-2.5", "", "nan", "inf", "x", "shop", "features", '"', "1e9", "\0", "²"])
_TABLE: st.SearchStrategy[Ask] = st.tuples(
    st.just("/invocations"),
    st.lists(st.lists(_CELL, min_size=1, max_size=4).map(",".join), max_size=4).map("\n".join).map(str.encode),
    st.just({"content-type": "text/csv"}),
)


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


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ask=_nearly_right() | _TABLE | _WILD)
def test_any_request_is_answered_as_the_protocol_says(served: Served, ask: Ask) -> None:
    answer = served.post(*ask)

    assert answer.status_code in EXPECTED
    if answer.status_code != 200:
        assert isinstance(answer.json()["error"], str)
