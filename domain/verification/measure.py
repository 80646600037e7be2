"""What a criterion's function says of a view."""

from __future__ import annotations

from dataclasses import dataclass

from domain.verdicts import CriterionState, Reason
from domain.verification.reasons import say
from domain.verification.statistics import Picked

EPSILON = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A criterion's figure at one moment.

    ``PENDING``: more samples may decide it; ``NOT_ASSESSABLE``: none in this run can. ``at`` is the row of a failure that no
    further sample can heal. ``probation``: a pass of the run would be on probation. ``reached``: the run got to what the
    criterion is about. ``retry_ms``: asking again is in vain until at least so much time has passed.
    """

    state: CriterionState
    value: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0
    reason: Reason | None = None
    at: int | None = None
    probation: bool = False
    reached: bool = True
    retry_ms: int = 0


def pending(
    reason: Reason, *, samples: int = 0, value: float | None = None, reached: bool = True, retry_ms: int = 0
) -> Measured:
    """Not enough yet."""
    return Measured(
        state=CriterionState.PENDING, reason=reason, samples=samples, value=value, reached=reached, retry_ms=retry_ms
    )


def unknowable(reason: Reason, *, probation: bool = False, reached: bool = True) -> Measured:
    """Cannot be assessed in this run, whatever comes."""
    return Measured(state=CriterionState.NOT_ASSESSABLE, reason=reason, probation=probation, reached=reached)


def judged(
    ok: bool,
    reason: Reason,
    *,
    value: float | None = None,
    low: float | None = None,
    high: float | None = None,
    samples: int = 0,
    at: int | None = None,
    probation: bool = False,
) -> Measured:
    """Pass or fail."""
    state = CriterionState.PASS if ok else CriterionState.FAIL
    return Measured(
        state=state, value=value, low=low, high=high, samples=samples, reason=reason, at=at, probation=probation
    )


def inside(value: float, low: float | None, high: float | None) -> bool:
    """Whether ``low`` ≤ value ≤ ``high``, forgiving the last digit of a float."""
    slack = EPSILON * max(1.0, abs(value))
    return (low is None or value >= low - slack) and (high is None or value <= high + slack)


def sparse(picked: Picked, complete: bool = True) -> Reason:
    """Not as many samples as :meth:`Picked.dense` wants, or :meth:`Picked.enough` where ``complete`` is given."""
    return say("too_few", count=f"{picked.count}", needed=f"{picked.needed(complete)}")
