"""What may be asked of a release, and when it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import Conflict, Invalid, NotFound
from services.router.releases import Phase, Strategy
from tests.unit.router.fakes import Desk, FakeRegistry

START: dict[str, Any] = {"model": "", "version": "", "strategy": Strategy.AUTO, "actor": "ann", "reason": ""}


@pytest.mark.parametrize(
    ("aliases", "asked", "error", "words"),
    [
        ({"champion": "1"}, {"model": "other"}, Invalid, "this platform serves 'm'"),
        ({"champion": "1"}, {}, Conflict, "no version carries the alias challenger"),
        ({"champion": "1"}, {"version": "1"}, Conflict, "is the champion already"),
        ({"champion": "1"}, {"version": "9"}, Conflict, "is not registered"),
        ({}, {"version": "2", "strategy": Strategy.CANARY}, Conflict, "use blue-green"),
    ],
)
async def test_a_start_is_refused_with_the_field_and_the_reason(
    tmp_path: Path, aliases: dict[str, str], asked: dict[str, Any], error: type[Exception], words: str
) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1", "2"}, **aliases))

    with pytest.raises(error, match=words):
        await desk.commands.start(**START | asked)


async def test_there_is_one_release_at_a_time(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1", "2", "3"}, champion="1"))
    await desk.commands.start(**START | {"version": "2"})

    with pytest.raises(Conflict, match="is in progress"):
        await desk.commands.start(**START | {"version": "3"})


async def test_what_is_only_being_cleared_away_blocks_nobody(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")
    await desk.tick(3)
    desk.commands.abort("", "ann", "no")

    again = await desk.commands.start(**START | {"version": "2"})
    await desk.tick(4)

    assert desk.store.get(again.release.release_id).challenger_weight == 2500
    assert desk.registry.held["challenger"] == "2"


async def test_going_back_to_an_older_version_is_a_release(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1", "2"}, champion="2"))

    await desk.commands.start(**START | {"version": "1", "strategy": Strategy.BLUE_GREEN})
    await desk.tick(8)

    assert desk.registry.held == {"champion": "1"}


async def test_what_waits_its_turn_can_only_be_aborted(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")

    for command in (desk.commands.promote, desk.commands.pause, desk.commands.resume):
        with pytest.raises(Conflict, match="waits for its turn"):
            command("", "ann", "")
    assert desk.commands.abort("", "ann", "").release.phase is Phase.ABORTED


async def test_what_has_ended_stays_ended(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")
    desk.commands.abort("", "ann", "no")

    for command in (desk.commands.promote, desk.commands.abort, desk.commands.pause, desk.commands.resume):
        with pytest.raises(Conflict, match="has ended: aborted"):
            command("", "ann", "")


async def test_a_promotion_is_not_turned_round_halfway(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")
    await desk.tick(3)
    desk.commands.promote("", "ann", "")

    with pytest.raises(Conflict, match="being promoted; to go back, release version 1"):
        desk.commands.abort("", "ann", "")


@pytest.mark.parametrize("weight", [-1, 10_001])
def test_a_weight_is_basis_points(tmp_path: Path, weight: int) -> None:
    with pytest.raises(Invalid, match="challenger_weight"):
        Desk(tmp_path, FakeRegistry(set())).commands.set_weight("", weight, "ann", "")


async def test_no_traffic_goes_to_what_is_not_loaded(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.world.not_loaded = "not yet"
    desk.register("2")
    await desk.tick(2)

    with pytest.raises(Conflict, match="has not loaded version 2"):
        desk.commands.set_weight("", 500, "ann", "")


def test_an_unknown_release_is_not_found(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry(set()))

    with pytest.raises(NotFound, match="no release yet"):
        desk.store.get("")
    with pytest.raises(NotFound, match="'v9'"):
        desk.commands.pause("v9", "ann", "")


def test_a_run_told_twice_is_queued_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))

    assert desk.register("2")
    assert not desk.register("2")
    assert len(desk.store.accounts()) == 1


def test_the_newest_waits_and_the_older_are_skipped_with_a_record(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    for version in ("2", "3", "4"):
        desk.register(version)

    newest, *older = desk.store.accounts()

    assert newest.release.phase is Phase.PENDING
    assert [each.release.phase for each in older] == [Phase.ABORTED, Phase.ABORTED]
    assert "version 4 came before its turn" in older[0].transitions[-1].why
    assert not desk.register("2"), "and is not queued again"
