"""A verdict: what the judge says of a test run, criterion by criterion."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """Of a whole run. ``PENDING`` only while samples are still coming in."""

    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Purpose(StrEnum):
    """Why a machine is measured: to prove a repair, or, after a pass on air that proved little, to see it in dirty air."""

    REPAIR = "repair"
    PROBATION = "probation"


class CriterionState(StrEnum):
    """Of one criterion."""

    PASS = "pass"  # noqa: S105 — not a password
    FAIL = "fail"
    NOT_ASSESSABLE = "not_assessable"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: the key of a sentence and its figures, ready to print; a figure may be a reason itself (verification/reasons.py)."""

    key: str
    figures: dict[str, str | Reason] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One line of the verdict: figure, limits, samples used, ``reason`` in English and the same as key and figures."""

    key: str
    state: CriterionState
    required: bool
    value: float | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    samples: int = 0
    reason: str = ""
    said: Reason | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's answer; times are device times in ms.

    ``net_active_s`` is the unbroken active time counted so far, ``min_active_s`` what the plan asks for; ``coverage`` is the
    share of expected samples present in the window (0…1). ``reasons`` explain the outcome, the deciding one first; ``said`` is
    the same, one by one, as keys and figures.
    """

    outcome: Outcome
    decided_at: int | None
    net_active_s: float
    min_active_s: float
    coverage: float
    criteria: tuple[CriterionResult, ...]
    reasons: tuple[str, ...] = field(default_factory=tuple)
    said: tuple[Reason, ...] = field(default_factory=tuple, kw_only=True)
    probation: bool = False
    phase: str = ""
