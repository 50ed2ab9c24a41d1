"""Cores and what runs on them: pinning, the processor time of a tree of processes, and when it rests."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from services.chassis.errors import Unavailable

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_LOOK_S, _RESTS_BELOW, _REST_WITHIN_S = 0.2, 0.15, 10.0


def pinned(core: int | None, command: Sequence[str]) -> list[str]:
    """The command, bound to one core with all its threads and children; None: to none."""
    return [*command] if core is None else ["taskset", "--cpu-list", str(core), *command]


def check_cores(*cores: int) -> None:
    """Raises Unavailable unless this machine lets us run on them."""
    ours = os.sched_getaffinity(0)
    if missing := sorted(set(cores) - ours):
        raise Unavailable(f"core {missing[0]} is not ours; server and generator need one each of {sorted(ours)}")


def family(pid: int) -> set[int]:
    """The process and all that descend from it; empty if it has ended."""
    found, waiting = set(), [pid]
    while waiting:
        pid = waiting.pop()
        try:
            children = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        except OSError:
            continue
        if children:
            found.add(pid)
        waiting += [int(child) for text in children for child in text.split()]
    return found


def cpu_s(pid: int) -> float:
    """User and system time of a process, of those of its children too that it has waited for (proc(5): stat, 14-17)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) * _TICK_S


def family_cpu_s(pid: int) -> float:
    """Of a process and all that descend from it, seconds so far."""
    return sum(cpu_s(member) for member in family(pid))


def wait_at_rest(pids: Collection[int]) -> None:
    """Returns when these families rest, so that work which was put off behind the answers is done; at most 10 s."""
    deadline = time.monotonic() + _REST_WITHIN_S
    now = sum(map(family_cpu_s, pids))
    rests = False
    while not rests and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        before, now = now, sum(map(family_cpu_s, pids))
        rests = now - before <= _RESTS_BELOW * _LOOK_S + _TICK_S
