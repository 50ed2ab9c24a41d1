"""What is in the folder of training sets beside them, and when it goes."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.features.training_files import remove_abandoned, scratch_folder

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


def _written(path: Path, ago: timedelta) -> Path:
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"...")
    moment = (NOW - ago).timestamp()
    os.utime(path, (moment, moment))
    return path


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path):
    old, young = timedelta(hours=2), timedelta(minutes=59)
    spilled = _written(tmp_path / ".building-killed" / "spilled.tmp", old)
    in_use = _written(tmp_path / ".building-in-use" / "spilled.tmp", young)
    part, young_part = _written(tmp_path / ".a.1.part", old), _written(tmp_path / ".a.2.part", young)
    training_set = _written(tmp_path / "a.parquet", timedelta(days=999))
    for folder in (spilled.parent, in_use.parent):
        _written(folder, old)

    remove_abandoned(tmp_path, NOW)

    assert not spilled.parent.exists() and not part.exists()
    assert in_use.exists() and young_part.exists() and training_set.exists()


def test_a_builds_scratch_folder_is_among_what_is_removed_once_it_is_abandoned(tmp_path: Path):
    with scratch_folder(tmp_path) as scratch:
        _written(scratch, timedelta(hours=2))
        remove_abandoned(tmp_path, NOW)
        assert not scratch.exists()
        scratch.mkdir()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_yet_needs_no_sweeping(tmp_path: Path):
    remove_abandoned(tmp_path / "training-sets", NOW)
