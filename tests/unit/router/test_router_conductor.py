"""A release is carried out, whatever happens in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.errors import Unavailable
from services.router.evidence import Arm
from services.router.releases import Phase, Stage, split_of
from tests.unit.router.fakes import Desk, FakeRegistry

ENOUGH_TICKS = 12


async def test_a_canary_ends_with_a_new_champion_and_no_challenger(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")

    await desk.tick(ENOUGH_TICKS)

    account = desk.store.account("")
    assert account.release.phase is Phase.SUCCESSFUL
    assert account.release.stage is Stage.DONE
    assert [each.challenger_weight for each in account.transitions] == [0, 0, 2500, 10_000, 10_000, 0]
    assert desk.registry.held == {"champion": "2"}


async def test_the_first_version_needs_no_evidence(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry(set()))
    desk.register("1")

    await desk.tick(ENOUGH_TICKS)

    assert [each.challenger_weight for each in desk.store.account("").transitions] == [0, 0, 10_000, 10_000, 0]
    assert desk.registry.held == {"champion": "1"}


@pytest.mark.parametrize("after_effect", [False, True], ids=["call lost", "answer lost"])
@pytest.mark.parametrize("call", range(6))
async def test_a_crash_at_any_call_to_the_registry_changes_nothing_in_the_end(
    tmp_path: Path, call: int, after_effect: bool
) -> None:
    registry = FakeRegistry({"1"}, champion="1")
    desk = Desk(tmp_path, registry)
    desk.register("2")
    registry.fails_at, registry.after_effect = call, after_effect

    for _ in range(ENOUGH_TICKS + 2):
        try:
            await desk.tick()
        except Unavailable:
            desk.restart()

    account = desk.store.account("")
    assert [each.challenger_weight for each in account.transitions] == [0, 0, 2500, 10_000, 10_000, 0]
    assert registry.held == {"champion": "2"}


async def test_a_rollback_takes_the_traffic_first_and_the_alias_when_envoy_has_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")
    desk.world.challenger = Arm(100, 0.9, 0.01)
    await desk.tick(4)
    assert desk.last().phase is Phase.FAILED
    assert split_of(desk.last()).challenger_weight == 0

    desk.world.is_applied = False
    await desk.tick(3)
    assert desk.registry.held == {"champion": "1", "challenger": "2"}
    desk.world.is_applied = True
    await desk.tick()

    assert desk.registry.held == {"champion": "1"}


async def test_the_weights_stay_until_the_champion_has_loaded(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")
    await desk.tick(5)
    desk.commands.promote("", "ann", "")
    desk.world.not_loaded = "it serves another one"

    await desk.tick(5)

    assert desk.registry.held["champion"] == "2"
    assert split_of(desk.store.current()).challenger_weight == 10_000
    assert "champion deployment" in desk.conductor.waiting_for(desk.last())


async def test_an_alias_that_somebody_else_moved_is_left_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1", "7"}, champion="1"))
    desk.register("2")
    await desk.tick(3)
    desk.registry.held["champion"] = "7"
    desk.commands.promote("", "ann", "")

    await desk.tick(2)

    assert desk.last().phase is Phase.ERROR
    assert desk.registry.held == {"champion": "7"}


async def test_a_version_registered_meanwhile_does_not_get_the_traffic(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")
    await desk.tick(3)

    desk.register("3")
    assert desk.registry.held["challenger"] == "3"
    await desk.tick()

    assert desk.registry.held["challenger"] == "2"
    await desk.tick(2 * ENOUGH_TICKS)
    assert desk.registry.held == {"champion": "3"}


async def test_an_older_version_than_the_champion_is_not_released_by_itself(tmp_path: Path) -> None:
    """Its run's record came again, long after."""
    desk = Desk(tmp_path, FakeRegistry({"1", "2"}, champion="2"))
    desk.register("1")

    await desk.tick(2)

    assert desk.last().phase is Phase.ABORTED
    assert "version 2 is the champion" in desk.store.account("").transitions[-1].why


async def test_paused_means_that_nothing_is_decided(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")
    await desk.tick(3)
    desk.commands.pause("", "ann", "lunch")
    desk.world.challenger = Arm(100, 0.9, 0.01)

    await desk.tick(5)

    assert desk.last().challenger_weight == 2500
    assert "paused" in desk.conductor.waiting_for(desk.last())
    desk.commands.resume("", "ann", "")
    await desk.tick(2)
    assert desk.last().phase is Phase.FAILED


async def test_a_change_in_between_is_not_overwritten(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeRegistry({"1"}, champion="1"))
    desk.register("2")
    await desk.tick(3)
    look = desk.world.look

    async def look_while_ann_aborts(release: object) -> object:
        seen = await look(release)  # type: ignore[arg-type]
        desk.commands.abort("", "ann", "stop")
        return seen

    desk.world.look = look_while_ann_aborts  # type: ignore[method-assign, assignment]
    with pytest.raises(Exception, match="has changed meanwhile"):
        await desk.tick()

    assert desk.last().phase is Phase.ABORTED
    await desk.tick()
    assert desk.last().stage is Stage.DONE
