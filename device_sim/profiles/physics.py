"""What every simulated machine has in common: a condition that faults change, and the face it shows to its protocol side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from domain.readings import Value


@dataclass(slots=True)
class Condition:
    """Physical facts that a fault changes; the defaults are a healthy machine."""

    powered: bool = True
    network: bool = True
    mains_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the machine's own board noticed: a maker's code and its level (``error`` or ``info``)."""

    fault_code: str
    level: str
    detail: Mapping[str, Value]


class Physics(Protocol):
    """A machine without its radio. Times are UTC in ms; a step never crosses what ``max_step_ms`` allows."""

    programs: tuple[str, ...]
    """Names that ``test_mode`` accepts as ``program``; the first is the default."""

    @property
    def condition(self) -> Condition: ...

    def max_step_ms(self, now_ms: int) -> int:
        """How far the next step may go, at least 1."""
        ...

    def step(self, now_ms: int, dt_ms: int) -> None:
        """Let the time from ``now_ms`` to ``now_ms + dt_ms`` pass."""
        ...

    def sample(self, now_ms: int) -> dict[str, Value]:
        """What sensors and board report now, rounded to the catalogue's resolution; empty = nothing to say."""
        ...

    def signature(self) -> tuple[object, ...]:
        """What is worth a sample of its own when it changes."""
        ...

    def notices(self) -> list[Notice]:
        """What the board noticed since the last call."""
        ...

    def power_on(self, now_ms: int) -> None:
        """The board starts: whatever program ran is forgotten."""
        ...

    def start_test(self, program: str, now_ms: int, active_s: float = 0.0) -> None:
        """Drop what runs now and run ``program`` (one of ``programs``), staying active for at least ``active_s``."""
        ...

    def end_test(self) -> None:
        """Back to the owner's timetable."""
        ...

    def stop(self) -> None:
        """Whatever runs ends, and latched codes with it."""
        ...

    def acknowledge(self) -> None:
        """A hand at the machine clears what the board has latched; a program that runs goes on."""
        ...
