"""Log files of several processes as one stream."""

from __future__ import annotations

import json
from pathlib import Path

from rich.text import Text

from services.cli.log_files import Line, LogFiles
from services.cli.log_view import rendered


def _entry(second: int, event: str, **keys: object) -> str:
    return json.dumps({"event": event, "timestamp": f"2026-01-01T10:00:{second:02}.000000Z", **keys}) + "\n"


def _texts(lines: list[Line]) -> list[str]:
    return [str(line.record.get("event", line.text)) for line in lines]


def test_lines_of_all_processes_come_by_their_time(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_text(_entry(1, "a") + _entry(3, "c"))
    two.write_text(_entry(2, "b") + _entry(4, "d"))

    assert _texts(LogFiles({"one": one, "two": two}).new()) == ["a", "b", "c", "d"]


def test_a_line_without_a_time_stays_behind_the_one_before_it(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_text(_entry(1, "a") + "Traceback of a\n" + _entry(3, "c"))
    two.write_text(_entry(2, "b"))

    assert _texts(LogFiles({"one": one, "two": two}).new()) == ["a", "Traceback of a", "b", "c"]


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "one.log"
    files = LogFiles({"one": path})
    assert files.new() == []

    path.write_text("first\nsec")
    assert _texts(files.new()) == ["first"]
    with path.open("a") as log:
        log.write("ond\n")
    assert _texts(files.new()) == ["second"]


def test_only_what_comes_after_the_end_is_new(tmp_path: Path) -> None:
    path = tmp_path / "one.log"
    path.write_text("old\n")
    files = LogFiles({"one": path}, from_end=True)

    with path.open("a") as log:
        log.write("new\n")

    assert _texts(files.new()) == ["new"]


def test_a_rotation_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "one.log"
    path.write_text("a\n")
    files = LogFiles({"one": path})
    assert _texts(files.new()) == ["a"]

    with path.open("a") as log:
        log.write("b\n")
    path.rename(tmp_path / "one.log.1")
    path.write_text("c\n")

    assert _texts(files.new()) == ["b", "c"]


def test_the_last_lines_of_each_are_shown(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_text("a\nb\nc\n")
    two.write_text("x\n")

    assert sorted(_texts(LogFiles({"one": one, "two": two}).last(2))) == ["b", "c", "x"]


def test_a_line_is_shown_as_time_process_event_and_keys() -> None:
    record = {"event": "run_[done]", "timestamp": "2026-01-01T10:00:01Z", "level": "info", "service": "x", "rows": 3}

    shown = Text.from_markup(rendered(Line("training", json.dumps(record), record))).plain

    assert shown.split() == ["10:00:01", "training", "run_[done]", "rows=3"]


def test_a_traceback_and_a_foreign_line_are_shown_whole() -> None:
    record = {
        "event": "call_failed",
        "timestamp": "2026-01-01T10:00:01Z",
        "level": "error",
        "exception": "Trace [1]\nX",
    }

    assert Text.from_markup(rendered(Line("router", "", record))).plain.endswith("call_failed \nTrace [1]\nX")
    assert Text.from_markup(rendered(Line("kafka", "WARN [x] y"))).plain.split(maxsplit=1) == ["kafka", "WARN [x] y"]
