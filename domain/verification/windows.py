"""Where the count begins and breaks, when the plan's conditions are met, and the rest phase (equipment.md §7.0, §7.5)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from domain.verification.soymilk import hold_from
from domain.verification.timeline import GAP_MS, Run, Timeline

STANDBY_MS = 60_000
"""The rest phase ends in standby, at least so long."""
MIN_GRIND_MS = 30_000

CheckKind = Literal["candidate", "rest_broken", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """A moment at which something is decided: rows up to ``stop`` are judged, ``row`` is the sample that made it known.

    ``candidate``: all times are reached · ``rest_broken``: a rest phase ended too early · ``broken``: the count restarts.
    """

    kind: CheckKind
    row: int
    stop: int
    rest: int | None = None


@dataclass(slots=True)
class Window:
    """One count from its first active row to ``last``; ``rest`` is the rest phase still in force at ``last``."""

    start: int
    last: int
    following: int
    complete_at: int | None = None
    done_at: int | None = None
    rest_from: int | None = None
    rest: int | None = None
    checks: list[Check] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Course:
    """All windows of a run in order; ``last`` is the last row that belongs to it, ``capped`` whether ``cap_s`` ended it."""

    windows: tuple[Window, ...]
    last: int
    capped: bool


def course(run: Run) -> Course:
    """The windows of a run, up to ``cap_s`` from its first sample."""
    line = run.line
    if not line.size:
        return Course((), -1, False)
    cap = bisect_right(line.ts, line.ts[0] + run.plan.cap_s * 1000) - 1
    found: list[Window] = []
    row = 0
    while row <= cap:
        if line.active[row]:
            found.append(_window(run, row, cap))
            row = found[-1].following
        else:
            row += 1
    last = max(cap, found[-1].last if found else cap)
    return Course(tuple(found), last, last < line.size - 1)


def _window(run: Run, start: int, cap: int) -> Window:
    line, plan = run.line, run.plan
    needed = line.active_before[start] + plan.min_active_s * 1000
    complete: int | None = None
    stopped: int | None = None
    row = start
    for row in range(start + 1, cap + 1):
        if line.gap[row - 1] > GAP_MS or (plan.no_dropout and _rebooted(line, row)):
            break
        if not line.active[row] and stopped is None:
            stopped = line.ts[row]
        if stopped is not None and complete is None and line.ts[row] - stopped > GAP_MS:
            last = row - line.active[row]
            return Window(start, last, row, checks=[Check("broken", row, last)])
        if line.active[row]:
            stopped = None
        if complete is None and line.active_before[row] >= needed:
            complete = row
    else:
        row = cap + 1
    done = _done(run, start, row)
    window = Window(start, row - 1, row, complete, done)
    broken = [Check("broken", row, row - 1)] if row <= cap else []
    if complete is None or done is None:
        window.checks = broken
    elif plan.rest_s:
        _rest(run, window, max(complete, done), cap)
    else:
        window.checks = [Check("candidate", i, i) for i in range(max(complete, done), row)] + broken
    return window


def _rest(run: Run, window: Window, begin: int, cap: int) -> None:
    """The rest phase from ``begin`` on: it restarts after a gap, an open valve or a stop, and the count does not."""
    line = run.line
    window.rest_from = begin
    rest: int | None = None
    standby: int | None = None
    stopped: int | None = None
    for row in range(begin, line.size):
        if row > cap and (line.active[row] or rest is None):
            break
        state, now = line.states[row], line.ts[row]
        silent = row > begin and line.gap[row - 1] > GAP_MS
        if line.active[row] or state == "standby":
            stopped = None
        elif stopped is None or silent:
            stopped = now
        if silent or state != "standby":
            standby = None
        if state == "standby" and standby is None:
            standby = now
        halted = stopped is not None and now - stopped > GAP_MS
        if rest is not None and (silent or halted or not line.valve_shut[row]):
            window.checks.append(Check("rest_broken", row, row - 1, rest))
            rest = None
        if rest is None and line.valve_shut[row] and not halted:
            rest = row
        window.last, window.rest = row, rest
        rested = rest is not None and now - line.ts[rest] >= run.plan.rest_s * 1000
        if rested and standby is not None and now - standby >= STANDBY_MS:
            window.checks.append(Check("candidate", row, row, rest))
    window.following = line.size


def _rebooted(line: Timeline, row: int) -> bool:
    before, after = line.readings[row - 1], line.readings[row]
    up, up_after = before.number("uptime_s"), after.number("uptime_s")
    renamed = before.boot is not None and after.boot is not None and before.boot != after.boot
    return renamed or (up is not None and up_after is not None and up_after < up)


def _done(run: Run, start: int, end: int) -> int | None:
    """First row of ``start`` … ``end`` − 1 at which all of the plan's ``done_when`` has been seen; None if it has not."""
    rows = [_DONE[name](run, start, end, wanted) for name, wanted in run.plan.done_when.items()]
    reached = [row for row in rows if row is not None]
    return None if len(reached) < len(rows) else max(reached, default=start)


def _held(run: Run, start: int, end: int, wanted: float) -> int | None:
    criterion = next(c for c in run.plan.criteria if c.key == "boil_hold")
    credited = hold_from(run.line, start, criterion).credited
    need = max(wanted, run.card.t_boil_hold_s) * 1000
    return next((row for row in range(start, end) if credited[row] >= need), None)


def _cycled(run: Run, start: int, end: int, wanted: float) -> int | None:
    """A whole cycle: water, then heat, then back in standby."""
    steps, step, cycles = ("filling", "heating", "standby"), 0, 0
    for row in range(start, end):
        if run.line.states[row] == steps[step]:
            step += 1
        if step == len(steps):
            step, cycles = 0, cycles + 1
            if cycles >= wanted:
                return row
    return None


def _ground(run: Run, start: int, end: int, wanted: float) -> int | None:
    line, spent, seen = run.line, 0, 0
    for row in range(start + 1, end):
        before = spent
        spent = spent + line.held[row - 1] if line.states[row - 1] == "grinding" else 0
        if before < MIN_GRIND_MS <= spent:
            seen += 1
            if seen >= wanted:
                return row
    return None


def _filled(run: Run, start: int, end: int, wanted: float) -> int | None:
    states, seen = run.line.states, 0
    for row in range(start + 1, end):
        if states[row - 1] == "filling" and states[row] != "filling":
            seen += 1
            if seen >= wanted:
                return row
    return None


_DONE: Mapping[str, Callable[[Run, int, int, float], int | None]] = {
    "hold_s": _held,
    "cycles": _cycled,
    "grinds": _ground,
    "fills": _filled,
}
