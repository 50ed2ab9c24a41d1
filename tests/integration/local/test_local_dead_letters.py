"""`slipway dlq` on a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.chassis.kafka import ensure_topics, make_consumer, make_producer
from services.chassis.settings import KafkaSettings
from services.cli.main import app
from services.topics import UPSTREAM, dead_letters
from tests.support import PARCELS, eventually

BAD, WORSE = b'{"id": "e-1", "weight": -1}', b"\xff not json"


@pytest.fixture
def letters(kafka: KafkaSettings) -> KafkaSettings:
    """Three dead letters: two of reason schema, one malformed."""
    ensure_topics(kafka, [UPSTREAM, dead_letters(UPSTREAM)])
    producer = make_producer(kafka)
    for offset, (reason, value) in enumerate([("schema", BAD), ("malformed", WORSE), ("schema", BAD)]):
        headers = {
            "reason": reason,
            "detail": f"why {offset}",
            "topic": UPSTREAM,
            "partition": "0",
            "offset": str(offset),
        }
        pairs = [(f"slipway-{name}", text.encode()) for name, text in headers.items()]
        producer.send(dead_letters(UPSTREAM), value, b"key", headers=pairs)
    producer.close()
    return kafka


def _slipway(kafka: KafkaSettings, *arguments: str) -> Result:
    variables = {"SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "SLIPWAY_FEATURE_REPO": str(PARCELS)}
    return CliRunner().invoke(app, ["dlq", *arguments], env=variables)


def _upstream(kafka: KafkaSettings, count: int) -> list[tuple[bytes | None, bytes | None]]:
    consumer = make_consumer(kafka, None, [UPSTREAM])
    found: list[tuple[bytes | None, bytes | None]] = []

    def read() -> bool:
        found.extend((record.key, record.value) for records in consumer.poll(500).values() for record in records)
        return len(found) >= count

    eventually(read, f"{count} records on {UPSTREAM}")
    consumer.close()
    return found


def test_a_broker_without_dead_letters_has_none(kafka: KafkaSettings) -> None:
    done = _slipway(kafka, "list")

    assert done.exit_code == 0, done.output
    assert done.stdout == "No dead letter.\n"


def test_dead_letters_are_counted_by_reason_and_listed(letters: KafkaSettings) -> None:
    done = _slipway(letters, "list", "--reason", "schema", "--limit", "1")

    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert ["schema", "2"] in lines
    assert ["malformed", "1"] in lines
    assert lines[-1][:2] == ["0:2", "schema"]
    assert "0:0" not in done.stdout


def test_one_is_shown_with_its_bytes_and_why(letters: KafkaSettings) -> None:
    done = _slipway(letters, "show", "0:1")

    assert "\\xff not json" in done.stdout
    assert "why 1" in done.stdout
    assert _slipway(letters, "show", "1", "--raw").stdout_bytes == WORSE


def test_what_is_mended_is_sent_in_its_place_under_its_key(letters: KafkaSettings, tmp_path: Path) -> None:
    mended = tmp_path / "event.json"
    mended.write_bytes(b'{"id": "e-1", "weight": 1}')

    done = _slipway(letters, "replay", "0:0", "--file", str(mended))

    assert done.exit_code == 0, done.output
    assert _upstream(letters, 1) == [(b"key", mended.read_bytes())]


def test_all_of_one_reason_are_sent_as_they_were(letters: KafkaSettings) -> None:
    assert _slipway(letters, "replay", "--reason", "schema").exit_code == 0

    assert _upstream(letters, 2) == [(b"key", BAD)] * 2


def test_a_place_where_there_is_none_is_said(letters: KafkaSettings) -> None:
    done = _slipway(letters, "replay", "0:9")

    assert done.exit_code == 1
    assert "no dead letter at 0:9" in done.stderr
