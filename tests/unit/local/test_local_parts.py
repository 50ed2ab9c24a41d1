"""What the parts are told."""

from __future__ import annotations

from pathlib import Path

from deploy.local import parts
from deploy.local.envoy import envoy_config


def _kafka(folder: Path) -> dict[str, str]:
    """The broker's settings; the storage counts as formatted already."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "meta.properties").touch()
    parts.prepare_kafka(folder, 19092, 19093)
    lines = (folder / "server.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_kafka_listens_on_loopback_only_and_keeps_everything(tmp_path: Path) -> None:
    told = _kafka(tmp_path)

    assert told["listeners"] == "PLAINTEXT://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093"
    assert told["log.dirs"] == str(tmp_path / "data")
    assert told["log.retention.hours"] == "-1"
    assert told["auto.create.topics.enable"] == "false"


def test_kafka_is_not_formatted_twice(tmp_path: Path) -> None:
    _kafka(tmp_path)

    parts.prepare_kafka(tmp_path, 19092, 19093)

    assert (tmp_path / "data" / "meta.properties").read_text() == ""


def test_redis_writes_every_change_to_its_file(tmp_path: Path) -> None:
    command = parts.redis_command(tmp_path, 16379)

    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--bind") + 1] == "127.0.0.1"
    assert command[command.index("--dir") + 1] == str(tmp_path)


def test_envoy_is_told_the_addresses_it_was_given() -> None:
    config = envoy_config(listen="127.0.0.1:1", admin="127.0.0.1:2", champion="127.0.0.1:3", router="127.0.0.1:5")
    ports = {
        cluster["name"]: cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"][
            "socket_address"
        ]["port_value"]
        for cluster in config["static_resources"]["clusters"]
    }

    grpc = {"champion": 3, "challenger": 9107, "champion-grpc": 3, "challenger-grpc": 9107}
    assert ports == grpc | {"champion-http": 8106, "challenger-http": 8107, "router": 5}
    fast = envoy_config(champion_fast="127.0.0.1:9")["static_resources"]["clusters"]
    assert [cluster["name"] for cluster in fast if "'port_value': 9}" in str(cluster)] == ["champion"]
    assert config["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] == 1
    assert config["admin"]["address"]["socket_address"]["port_value"] == 2
