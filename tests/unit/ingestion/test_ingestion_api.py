from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence

import pytest
from httpx import ASGITransport, AsyncClient

from services.chassis.errors import Unavailable
from services.ingestion.api import make_api
from services.ingestion.intake import Answer
from tests.unit.ingestion.documents import cloud_event, document

STRUCTURED = {"content-type": "application/cloudevents+json; charset=UTF-8"}
BATCH = {"content-type": "application/cloudevents-batch+json"}


class FakeIntake:
    """Accepts what says that it is good."""

    def __init__(self) -> None:
        self.down = False
        self.appended: list[bytes] = []

    def publish(self, documents: Sequence[bytes], edge: str) -> list[Answer]:
        if self.down:
            raise Unavailable("Kafka does not confirm")
        self.appended += [each for each in documents if b"parcel.delivered" in each]
        return [
            Answer(True, "good")
            if b"parcel.delivered" in each
            else Answer(False, "bad", "schema", "data.shop: missing")
            for each in documents
        ]

    def close(self) -> None: ...


@pytest.fixture
def intake() -> FakeIntake:
    return FakeIntake()


@pytest.fixture
async def client(intake: FakeIntake) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(make_api(intake)), base_url="http://ingestion") as client:
        yield client


async def test_a_good_event_is_appended_byte_for_byte(client: AsyncClient, intake: FakeIntake):
    answer = await client.post("/v1/events", content=document(), headers=STRUCTURED)

    assert (answer.status_code, answer.json()["outcome"]) == (202, "accepted")
    assert intake.appended == [document()]


async def test_a_bad_event_is_answered_with_its_reason(client: AsyncClient):
    answer = await client.post(
        "/v1/events", content=document(type="other"), headers={"content-type": "application/json"}
    )

    assert answer.status_code == 422
    assert answer.json() == {
        "outcome": "rejected",
        "event_id": "bad",
        "reason": "schema",
        "detail": "data.shop: missing",
    }


async def test_each_event_of_a_batch_is_answered(client: AsyncClient, intake: FakeIntake):
    batch = [cloud_event(), cloud_event(type="other"), 7]

    answer = await client.post("/v1/events:batch", content=json.dumps(batch), headers=BATCH)

    assert answer.status_code == 200
    assert [result["outcome"] for result in answer.json()["results"]] == ["accepted", "rejected", "rejected"]
    assert [json.loads(each) for each in intake.appended] == [cloud_event()]


@pytest.mark.parametrize("body", [b"{", b"{}", b"\xff"])
async def test_a_batch_is_an_array(client: AsyncClient, body: bytes):
    assert (await client.post("/v1/events:batch", content=body, headers=BATCH)).status_code == 400


async def test_another_content_type_is_refused(client: AsyncClient):
    answer = await client.post("/v1/events", content=document(), headers={"content-type": "text/plain"})

    assert answer.status_code == 415
    assert "application/cloudevents+json" in answer.json()["detail"]


async def test_a_body_without_end_is_refused(client: AsyncClient):
    answer = await client.post("/v1/events", content=b" " * (16 * 1024 * 1024 + 1), headers=STRUCTURED)

    assert answer.status_code == 413


async def test_without_the_broker_nothing_is_promised(client: AsyncClient, intake: FakeIntake):
    intake.down = True

    assert (await client.post("/v1/events", content=document(), headers=STRUCTURED)).status_code == 503


async def test_the_documentation_loads_nothing_from_elsewhere(client: AsyncClient):
    page = (await client.get("/docs")).text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)

    assert loaded
    assert [url for url in loaded if not url.startswith("/")] == []
    assert {(await client.get(url)).status_code for url in loaded} == {200}
    assert "http" not in re.sub(r"window\.location\.origin", "", page)
    assert '"validatorUrl": "none"' in page


async def test_the_schema_names_both_ways_in(client: AsyncClient):
    paths = (await client.get("/openapi.json")).json()["paths"]

    assert list(paths["/v1/events"]["post"]["requestBody"]["content"]) == [
        "application/cloudevents+json",
        "application/json",
    ]
    assert "application/cloudevents-batch+json" in paths["/v1/events:batch"]["post"]["requestBody"]["content"]
