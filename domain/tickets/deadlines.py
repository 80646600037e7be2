"""The 24 h / 48 h clock of a ticket: pure arithmetic on business time.

A repair is solved within 24 hours, 48 at most with a reason (service-process.md §3). The clock stands still in paused
states: ``due_at`` moves by the length of the pause when it ends, so running + paused time always equals wall time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

STANDARD = timedelta(hours=24)
EXTENDED = timedelta(hours=48)
WARN_BEFORE = timedelta(hours=4)
"""EJ: a dispatcher needs about half a working day to save a ticket."""
ACCEPT_WITHIN = timedelta(minutes=30)
"""EJ: an assignment that nobody accepts goes back and escalates."""
REARM_AFTER = timedelta(minutes=30)
"""After a waiver the rules are armed again (architecture.md)."""
MUTE_AT_MOST = timedelta(hours=8)
"""A visit keeps findings of the machine to itself for one working day at most (EJ); a test run for as long as it may last."""
WATCH_FOR = timedelta(hours=72)
"""How long a machine is watched after a pass on probation or a solution by phone (tickets.md)."""
REWORK_WITHIN = timedelta(days=30)
"""A fault of the same family within this time of closing is a rework 返修 (EJ)."""


class Clock(StrEnum):
    """What the deadline clock shows."""

    RUNNING = "running"
    WARNING = "warning"
    BREACHED = "breached"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class DeadlineView:
    """``remaining`` is negative after the breach."""

    clock: Clock
    due_at: datetime
    remaining: timedelta


def view(due_at: datetime, *, paused_at: datetime | None, ended_at: datetime | None, now: datetime) -> DeadlineView:
    """The deadline as seen at ``now``; while paused, what remained when the pause began."""
    if ended_at is not None:
        return DeadlineView(Clock.ENDED, due_at, due_at - ended_at)
    if paused_at is not None:
        return DeadlineView(Clock.PAUSED, due_at + (now - paused_at), due_at - paused_at)
    remaining = due_at - now
    if remaining <= timedelta(0):
        return DeadlineView(Clock.BREACHED, due_at, remaining)
    return DeadlineView(Clock.WARNING if remaining <= WARN_BEFORE else Clock.RUNNING, due_at, remaining)
