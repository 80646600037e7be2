"""A finding: one episode of one fault rule on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Severity(IntEnum):
    """P1 stop or safety · P2 not usable · P3 degraded · P4 maintenance (equipment.md §6)."""

    P1 = 1
    P2 = 2
    P3 = 3
    P4 = 4


class Kind(StrEnum):
    """假性 (an operating matter) or 真性 (a repair), or not decided yet."""

    REAL = "real"
    FALSE = "false"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Finding:
    """One episode: raised, perhaps cleared. Times are device times in ms.

    ``evidence`` holds the figures that decided (channel or statistic → number); ``cause`` is a key of the likely cause
    (for R01 ``no_power`` or ``network``), empty where the rule has only one.
    """

    rule: str
    family: str
    severity: Severity
    serial: str
    raised_at: int
    kind: Kind = Kind.UNDECIDED
    cleared_at: int | None = None
    cause: str = ""
    evidence: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def episode_key(self) -> str:
        """Unique for ever: replay can neither double nor revive what came of it."""
        return f"{self.rule}:{self.serial}:{self.raised_at}"
