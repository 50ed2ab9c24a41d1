"""Reading a feature repository: what is missing or wrong is said with the file's name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.errors import Invalid
from services.problem import load_event_types, load_label, load_module, load_recipe
from tests.support import FLIGHTS, PARCELS

EVENTS = """
from services.problem import EventType, Payload
class Sent(Payload):
    parcel_id: str
"""


@pytest.fixture(autouse=True)
def _imports_as_before() -> Iterator[None]:
    """A feature repository imports its modules at the top level; other tests have theirs."""
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)


def test_a_folder_that_states_no_problem_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=rf"{tmp_path}/recipe.py does not exist; SLIPWAY_FEATURE_REPO must name"):
        load_recipe(tmp_path)


def test_a_module_without_its_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "label.py").write_text("LABELS = 1\n")

    with pytest.raises(Invalid, match=rf"{tmp_path}/label.py: LABEL is not defined"):
        load_label(tmp_path)


@pytest.mark.parametrize(
    "types",
    ["[]", "[EventType('a.b', Sent, key='parcel_id'), EventType('a.b', Sent, key='parcel_id')]"],
    ids=["none", "twice"],
)
def test_event_types_are_at_least_one_each_name_once(tmp_path: Path, types: str) -> None:
    (tmp_path / "events.py").write_text(f"{EVENTS}\nEVENT_TYPES = {types}\n")

    with pytest.raises(Invalid, match=r"events.py: EVENT_TYPES must hold at least one type, each name once"):
        load_event_types(tmp_path)


def test_an_error_inside_a_module_keeps_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text("from nowhere_at_all import RECIPE\n")

    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        load_recipe(tmp_path)


@pytest.mark.parametrize("repo", [FLIGHTS, PARCELS], ids=["bundled", "second"])
def test_the_label_and_the_spine_speak_of_declared_events_and_columns(repo: Path) -> None:
    types, label, recipe = load_event_types(repo), load_label(repo), load_recipe(repo)

    assert recipe.label == label
    assert {label.entity_id, recipe.spine.time_field} <= set(types[recipe.spine.event_type].columns)
    for event_type, column in label.outcomes.items():
        assert label.entity_id in types[event_type].columns
        assert column is None or column in types[event_type].columns


def test_two_problems_in_one_process_do_not_meet() -> None:
    first = load_recipe(FLIGHTS)
    second = load_recipe(PARCELS)

    assert first.name != second.name
    assert load_recipe(FLIGHTS).name == first.name
    assert Path(load_module(PARCELS, "events").__file__ or "").parent == PARCELS
