"""A test run as people read it: the count of net active time, every criterion with figure and reason, the checks to enter.

It shows what the judge has stored (``progress`` while measured, the sealed verdict afterwards) and computes nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from sqlalchemy.orm import Session

from domain.catalogue.plans import Entry, TestPlan
from domain.clock import from_ms
from domain.desk import evidence
from domain.desk.verification import plan_of
from domain.store.queries import service
from domain.store.queries import tickets as query
from domain.store.tables import TestRun, Ticket
from domain.verdicts import CriterionState, Outcome
from portal.language import Message, _
from portal.names import name_in
from portal.reasons import reason_message
from portal.render import Form

SILENT_AFTER = timedelta(seconds=60)
"""A gap of this length restarts the count (equipment.md §7.0): time to look at the machine."""

PHASES: Mapping[str, str] = {
    "": _("Waiting for the first samples"),
    "waiting": _("Waiting until the machine runs"),
    "active": _("Measuring under load"),
    "extended": _("Time reached; what the plan asks for has not been seen yet"),
    "rest": _("Rest phase: leave the machine alone"),
    "decided": _("Decided; waiting for late samples"),
}
REASONS_SHOWN = 4
SHOWN_ELSEWHERE = ("criterion", "net_active", "too_few_of")
STATE_ORDER = (
    CriterionState.FAIL.value, CriterionState.PENDING.value, CriterionState.NOT_ASSESSABLE.value, CriterionState.PASS.value,
)  # fmt: skip
"""What needs a person's eye stands first."""


@dataclass(frozen=True, slots=True)
class CriterionLine:
    """One criterion as it stands."""

    key: str
    name: str
    state: str
    required: bool
    value: float | None
    unit: str
    low: float | None
    high: float | None
    samples: int
    reason: Message | None


@dataclass(frozen=True, slots=True)
class EntryLine:
    """A check that the plan asks a person to enter; ``given`` is None until somebody did."""

    key: str
    name: str
    unit: str
    numeric: bool
    low: float | None
    high: float | None
    given: float | bool | None
    form: Form


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPanel:
    """One test run. ``may_enter``: the reader may enter the plan's checks, the run being measured still."""

    id: int
    ticket_id: int
    attempt: int
    purpose: str
    plan: str
    plan_key: str
    outcome: str
    voided_at: datetime | None
    started_at: datetime
    decided_at: datetime | None
    started_by: str
    phase: str
    net_active_s: float
    min_active_s: float
    cap_s: float
    coverage: float
    samples: int
    last_sample_at: datetime | None
    silent_for: timedelta | None
    criteria: tuple[CriterionLine, ...]
    reasons: tuple[Message, ...]
    probation: bool
    entries: tuple[EntryLine, ...]
    may_enter: bool
    decided_second: datetime | None
    evidence_sha256: str = ""

    @property
    def running(self) -> bool:
        """Whether samples still count."""
        return self.outcome == Outcome.PENDING and self.voided_at is None

    @property
    def remaining_s(self) -> float:
        """Net active time still asked for."""
        return max(0.0, self.min_active_s - self.net_active_s)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many criteria stand in each state."""
        return {state: sum(line.state == state for line in self.criteria) for state in STATE_ORDER}

    @property
    def missing_entries(self) -> tuple[EntryLine, ...]:
        """Checks that nobody has entered yet."""
        return tuple(entry for entry in self.entries if entry.given is None)


def run_panels(
    session: Session,
    ticket: Ticket,
    now: datetime,
    locale: str,
    *,
    may_enter: bool,
    refused: tuple[str, Form] | None = None,
) -> tuple[RunPanel, ...]:
    """All runs of a ticket, the latest first."""
    found = query.runs(session, ticket.id)
    names = service.person_names(session, [run.started_by_id for run in found if run.started_by_id is not None])
    return tuple(_panel(session, run, names, now, locale, may_enter, refused) for run in found)


def run_panel(
    session: Session,
    run: TestRun,
    now: datetime,
    locale: str,
    *,
    may_enter: bool,
    refused: tuple[str, Form] | None = None,
) -> RunPanel:
    """One run; ``refused`` is an entry that came back with what was wrong."""
    names = service.person_names(session, [run.started_by_id] if run.started_by_id is not None else [])
    return _panel(session, run, names, now, locale, may_enter, refused)


def _panel(
    session: Session,
    run: TestRun,
    names: Mapping[int, str],
    now: datetime,
    locale: str,
    may_enter: bool,
    refused: tuple[str, Form] | None,
) -> RunPanel:
    sealed = query.verdict(session, run.id)
    terms = evidence.terms(run, sealed)
    plan = plan_of(terms)
    body: Mapping[str, Any] = sealed.body if sealed else run.progress
    running = run.outcome == Outcome.PENDING and run.voided_at is None
    decided_ms = body.get("decided_at")
    last = run.last_sample_at or run.started_at
    return RunPanel(
        id=run.id,
        ticket_id=run.ticket_id,
        attempt=run.attempt,
        purpose=run.purpose,
        plan=name_in(plan, locale),
        plan_key=plan.key,
        outcome=run.outcome,
        voided_at=run.voided_at,
        started_at=run.started_at,
        decided_at=run.decided_at,
        started_by=names.get(run.started_by_id, "") if run.started_by_id is not None else "",
        phase=PHASES.get(str(body.get("phase", "")), str(body.get("phase", ""))),
        net_active_s=float(body.get("net_active_s", 0.0)),
        min_active_s=float(body.get("min_active_s") or plan.min_active_s),
        cap_s=plan.cap_s,
        coverage=float(body.get("coverage", 0.0)),
        samples=sealed.evidence_samples if sealed else run.samples,
        last_sample_at=run.last_sample_at,
        silent_for=now - last if running and now - last > SILENT_AFTER else None,
        criteria=criterion_lines(plan, body.get("criteria", ()), locale),
        reasons=_reasons(body, running, locale),
        probation=bool(body.get("probation", False)),
        entries=tuple(_entry(entry, terms["entries"], locale, refused) for entry in plan.entries),
        may_enter=may_enter and running,
        decided_second=from_ms(int(decided_ms)) if decided_ms is not None else None,
        evidence_sha256=sealed.evidence_sha256 if sealed else "",
    )


def _reasons(body: Mapping[str, Any], running: bool, locale: str) -> tuple[Message, ...]:
    # While measured, what is missing stands in the criteria and the ring; only what else concerns the whole run is said.
    told = list(zip_longest(map(str, body.get("reasons", ())), body.get("said", ())))
    if running:
        told = [(text, said) for text, said in told if said is None or said["key"] not in SHOWN_ELSEWHERE]
    return tuple(reason_message(said, text, locale) for text, said in told[: None if running else REASONS_SHOWN])


def criterion_lines(plan: TestPlan, judged: Sequence[Mapping[str, Any]], locale: str) -> tuple[CriterionLine, ...]:
    """The judge's lines under the plan's names, what needs an eye first; before the first judgement, the plan's own list."""
    names = {criterion.key: name_in(criterion, locale) for criterion in plan.criteria}
    if not judged:
        return tuple(
            CriterionLine(
                criterion.key, names[criterion.key], CriterionState.PENDING.value,
                criterion.when == "always" or criterion.key in plan.required, None, criterion.unit, None, None, 0, None,
            )
            for criterion in plan.criteria
        )  # fmt: skip
    lines = [
        CriterionLine(
            key=str(line["key"]),
            name=names.get(str(line["key"]), str(line["key"])),
            state=str(line["state"]),
            required=bool(line["required"]),
            value=line.get("value"),
            unit=str(line.get("unit", "")),
            low=line.get("low"),
            high=line.get("high"),
            samples=int(line.get("samples", 0)),
            reason=reason_message(line.get("said"), str(line["reason"]), locale) if line.get("reason") else None,
        )
        for line in judged
    ]
    return tuple(sorted(lines, key=lambda line: (STATE_ORDER.index(line.state), not line.required)))


def _entry(entry: Entry, given: Mapping[str, float | bool], locale: str, refused: tuple[str, Form] | None) -> EntryLine:
    form = refused[1] if refused and refused[0] == entry.key else Form.blank()
    return EntryLine(
        entry.key,
        name_in(entry, locale),
        entry.unit,
        entry.numeric,
        entry.low,
        entry.high,
        given.get(entry.key),
        form,
    )
