"""The rules of CONTRIBUTING that a machine can watch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services import topics
from services.problem import load_event_types, load_module
from tests.support import FLIGHTS
from tests.support.process import REPOSITORY

ROOMS = ("README.md", "__main__.py", "app.py", "settings.py")
SERVICES = ("ingestion", "features", "training", "inference", "router", "monitoring")
# Words that the bundled problem shares with the platform: where a record comes from, where artifacts go.
COMMON_WORDS = {"origin", "destination"}
TEXT = {".py", ".md", ".css", ".html", ".yaml", ".toml", ".json"}
PAGES = ("README.md", "CONTRIBUTING.md", "deploy/README.md")
ARCHITECTURE = (REPOSITORY / "docs/architecture.md").read_text()


def _platform_files() -> list[Path]:
    return [
        path
        for folder in ("services", "protos")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in {*TEXT, ".proto"} and path.is_file()
    ]


def _areas() -> set[str]:
    """What the problem's events are about: the first word of their names."""
    return {name.partition(".")[0] for name in load_event_types(FLIGHTS)}


def _names() -> set[str]:
    """Its event types, their columns, its entities and join keys."""
    types = load_event_types(FLIGHTS)
    columns = {column for event_type in types.values() for column in event_type.columns}
    entities = [each for each in vars(load_module(FLIGHTS, "entities")).values() if hasattr(each, "join_key")]
    assert entities
    return {*types, *columns, *(each.name for each in entities), *(each.join_key for each in entities)} - COMMON_WORDS


def test_no_file_of_the_platform_says_what_the_bundled_problem_is_about() -> None:
    about = re.compile("|".join(sorted(_areas())), re.IGNORECASE)
    assert "flight" in _areas()

    found = [f"{path}: {match[0]}" for path in _platform_files() for match in about.finditer(path.read_text())]

    assert found == []


def test_no_file_of_the_platform_uses_a_name_of_the_bundled_problem() -> None:
    names = re.compile(rf"\b({'|'.join(map(re.escape, sorted(_names())))})\b")

    found = [f"{path}: {match[0]}" for path in _platform_files() for match in names.finditer(path.read_text())]

    assert found == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_rooms(service: str) -> None:
    assert [room for room in ROOMS if not (REPOSITORY / "services" / service / room).is_file()] == []


def test_the_architecture_and_the_code_name_the_same_topics() -> None:
    in_code = {each.name for each in vars(topics).values() if isinstance(each, topics.Topic)}
    in_code |= {topics.UPSTREAM, topics.dead_letters(topics.UPSTREAM), topics.events_topic("<type>").name}

    on_paper = set(re.findall(r"(?<![\w./])[a-z]+\.(?:[a-z_]+|<type>)\.v1(?:\.dlq)?\b", ARCHITECTURE))

    assert on_paper == in_code


def test_a_topic_is_named_area_noun_version() -> None:
    for each in vars(topics).values():
        if isinstance(each, topics.Topic):
            assert re.fullmatch(r"[a-z]+\.[a-z_]+\.v1", each.name)


def test_make_help_fits_on_a_screen_and_every_target_says_what_it_does() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    documented = re.findall(r"^([a-z0-9-]+):.*## \S", makefile, re.MULTILINE)

    assert 10 < len(documented) <= 15
    assert {"setup", "check", "demo", "protos", "lock"} <= set(documented)


def test_ci_runs_what_people_run() -> None:
    assert re.findall(r"^exec (.*)$", (REPOSITORY / ".ci/run").read_text(), re.MULTILINE) == ["make check"]
    assert "- run: .ci/run" in (REPOSITORY / ".github/workflows/ci.yml").read_text()


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    pages = [*(REPOSITORY / each for each in PAGES), *REPOSITORY.glob("services/*/README.md")]

    named = {name for page in pages if page.exists() for name in re.findall(r"\bmake ([a-z][a-z0-9-]*)", _code(page))}

    assert named
    assert named <= targets


def _code(page: Path) -> str:
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL))
