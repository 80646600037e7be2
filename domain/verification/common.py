"""Criteria that every equipment type has: supply voltage, alarms, what the technician entered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isfinite

from domain.catalogue.plan_model import Criterion, Entry
from domain.detection.engine import Detector
from domain.findings import Finding, Severity
from domain.verification.measure import Measured, inside, judged, pending, sparse
from domain.verification.reasons import say
from domain.verification.timeline import Run, View

Measure = Callable[[View, Criterion], Measured]


def voltage(view: View, criterion: Criterion) -> Measured:
    """#1: 5th to 95th percentile of the mains; outside, the site's supply makes the run not assessable, never failed."""
    lows, highs = view.line.volts
    rows = view.settled if view.run.plan.type == "freshair" else view.counted
    lowest, highest = view.pick(rows, lows), view.pick(rows, highs)
    if not lowest.enough(view.complete):
        return pending(sparse(lowest, view.complete), samples=lowest.count)
    suffix = "_3" if view.card.phases == 3 else ""
    low, high = (criterion.limits[f"{side}{suffix}"] * view.card.rated_v for side in ("low", "high"))
    p5, p95 = lowest.percentile(5), highest.percentile(95)
    reason = say("volts", low=f"{p5:.1f}", high=f"{p95:.1f}", least=f"{low:.1f}", most=f"{high:.1f}")
    if not (inside(p5, low, None) and inside(p95, None, high)):
        worst = p5 if not inside(p5, low, None) else p95
        again = max(lowest.recovers_ms(5, low, None), highest.recovers_ms(95, None, high))
        return pending(say("site_supply", reason=reason), samples=lowest.count, value=worst, retry_ms=again)
    return judged(True, reason, value=lowest.median, low=low, high=high, samples=lowest.count)


def first_alarm(run: Run, last_row: int) -> tuple[int, Finding] | None:
    """The first P1 or P2 finding, or finding of the original rule, with the row that raised it. R01 never: silence is a gap."""
    detector = Detector(run.card, "", baseline=run.baseline)
    for row, reading in enumerate(run.readings[: last_row + 1]):
        # one sample per moment, in order: what identifies a redelivery has done its work
        for finding in detector.fold(replace(reading, boot=None, seq=None, recv_ms=None)):
            counts = finding.severity <= Severity.P2 and finding.rule != "R01"
            if finding.cleared_at is None and (counts or finding.rule == run.original_rule):
                return row, finding
    return None


def alarms(found: tuple[int, Finding] | None) -> Measure:
    """#11 for a run whose first alarm is known."""

    def measure(view: View, criterion: Criterion) -> Measured:
        newest = max(view.stop, view.after)
        if found is None or found[0] > newest:
            return judged(True, say("no_alarm"), value=0, high=0, samples=newest + 1)
        row, finding = found
        reason = say("raised", finding=f"{finding.rule} P{finding.severity:d} {finding.cause}".rstrip())
        return judged(False, reason, value=1, high=0, samples=newest + 1, at=row)

    return measure


def entry(view: View, criterion: Criterion) -> Measured:
    """What the plan wants typed in."""
    results = [_entered(wanted, view.run.entries.get(wanted.key)) for wanted in view.run.plan.entries]
    order = ("fail", "pending", "pass")
    return min(results, key=lambda r: order.index(r.state))


def _entered(wanted: Entry, given: float | bool | None) -> Measured:
    if given is None or not isfinite(given):
        return pending(say("not_entered", entry=wanted.name_en))
    if given is False or (not wanted.numeric and not given):
        return judged(False, say("not_in_order", entry=wanted.name_en), value=0)
    if given is True or not wanted.numeric:
        # a yes stands for a number only where it answers a limit
        confirmed = not wanted.numeric or wanted.high is not None
        return (
            judged(True, say("in_order", entry=wanted.name_en))
            if confirmed
            else pending(say("number_wanted", entry=wanted.name_en))
        )
    reason = say("entered", entry=wanted.name_en, value=f"{given:g}", unit=wanted.unit)
    return judged(
        inside(given, wanted.low, wanted.high), reason, value=given, low=wanted.low, high=wanted.high, samples=1
    )
