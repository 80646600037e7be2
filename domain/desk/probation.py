"""Probation: what happens to a machine in the 72 h after a pass that proved little, or after a solution by phone.

A fresh-air unit that passed on clean or weakly judged air is judged again on its first 2 h of dirty air (equipment.md §7.2,
§7.5): the gateway's samples wait in a run of its own, and only the hours that were judged are sealed as evidence. A fault that
comes back, or a failing verdict, ends the probation badly; 72 h without either end it, noted.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from domain.catalogue.freshair.plans import DIRTY_UGM3, PROBATION
from domain.catalogue.plans import plan_to_json
from domain.clock import from_ms
from domain.desk import device_commands, evidence
from domain.desk.actor import SYSTEM
from domain.desk.door import change, journal, notify, run_of
from domain.desk.intake import open_rework
from domain.desk.verification import card_of
from domain.store.queries import evidence as samples_query
from domain.store.queries import tickets as query
from domain.store.tables import TestRun, Ticket
from domain.tickets.states import Action, Role, State
from domain.verdicts import Outcome, Purpose, Reason, Verdict
from domain.verification.freshair import PM_IN, PM_OUT
from domain.verification.probation import WINDOW_MS, judge_dirty_air
from domain.verification.reasons import in_english, say
from domain.verification.timeline import MAX_INTERVAL_MS

log = structlog.get_logger()

LOOK_EVERY = timedelta(minutes=1)
KEPT_MS = WINDOW_MS + 600_000
"""Samples that can still be part of two hours to come; older ones go."""
FAST_INTERVAL_S = 10
FAST_FOR = timedelta(hours=3)
"""In dirty air the machine is asked to report so often, so long: the judge believes no slower samples."""
NOT_CLEANING = "In dirty air the unit does not do what it should"
CRITERION = "pm25_efficiency"


def watch_probation(session: Session, now: datetime) -> None:
    """Judge the first dirty air of each machine on probation, and end what has lasted 72 h; each outcome once, journalled."""
    for ticket_id in query.on_probation(session):
        try:
            with session.begin_nested():
                ticket = query.ticket(session, ticket_id, lock=True)
                if ticket.probation_until is not None:
                    _watch(session, ticket, ticket.probation_until, now)
        except (ArithmeticError, LookupError, TypeError, ValueError, SQLAlchemyError):
            log.exception("probation_failed", ticket=ticket_id)  # one that breaks must not keep the others waiting


def _watch(session: Session, ticket: Ticket, until: datetime, now: datetime) -> None:
    run = query.probation_run(session, ticket.id)
    if query.rework_of(session, ticket.id) is not None:
        _end(session, ticket, run, None, "probation_failed", say("came_back"), now)
        return
    run = run or _begin(session, ticket)
    if run is not None and _due(run, until, now):
        verdict = _look(session, run, now)
        if verdict is not None:
            _judged(session, ticket, run, verdict, now)
            return
    if now >= until:
        _end(session, ticket, run, None, "probation_ended", say("no_dirty_air") if run else None, now)


def _begin(session: Session, ticket: Ticket) -> TestRun | None:
    """The run that waits for dirty air, if the pass rests on a plan that asks for the efficiency."""
    passed = run_of(session, ticket)
    if passed is None or passed.outcome != Outcome.PASSED or CRITERION not in passed.plan["required"]:
        return None
    run = TestRun(
        ticket_id=ticket.id,
        serial=passed.serial,
        attempt=passed.attempt,
        purpose=Purpose.PROBATION.value,
        plan=json.loads(plan_to_json(PROBATION)),
        card=passed.card,
        entries={},
        demo_site=passed.demo_site,
        started_at=ticket.verified_at or passed.started_at,
        progress={},
    )
    session.add(run)
    session.flush()
    return run


def _due(run: TestRun, until: datetime, now: datetime) -> bool:
    looked = run.progress.get("looked_at")
    new = run.samples != run.judged_samples
    return new and (now >= until or looked is None or now - datetime.fromisoformat(looked) >= LOOK_EVERY)


def _look(session: Session, run: TestRun, now: datetime) -> Verdict | None:
    """The verdict on the first dirty hours, if the samples hold them; what cannot be part of such hours any more goes."""
    readings = evidence.samples(session, run)
    found = judge_dirty_air(
        card_of(evidence.terms(run, None)), readings, after_ms=run.progress.get("looked_to", 0), demo_site=run.demo_site
    )
    if found is not None:
        verdict, first, last = found
        samples_query.forget_outside(session, run.id, first, last)
        return verdict
    run.judged_samples = run.samples
    newest = max((r.ts for r in readings), default=0)
    run.progress = {**run.progress, "looked_at": now.isoformat(), "looked_to": newest}
    samples_query.forget_outside(session, run.id, newest - KEPT_MS, None)
    recent = [r for r in readings if newest - r.ts <= 4 * MAX_INTERVAL_MS]
    dirty = any((r.number(channel) or 0.0) >= DIRTY_UGM3 for r in recent for channel in (PM_IN, PM_OUT))
    if dirty and len(recent) < 4:
        _ask_for_more(session, run, now)
    return None


def _ask_for_more(session: Session, run: TestRun, now: datetime) -> None:
    """Dirty air, and samples too rare to be judged: the machine shall report more often for a while."""
    asked = run.progress.get("asked_at")
    if asked and now - datetime.fromisoformat(asked) < FAST_FOR / 2:
        return
    if any(command.expires_at > now for command in samples_query.unsent(session, run.serial)):
        return  # it would be overtaken by this one
    params = {"interval_s": FAST_INTERVAL_S, "ttl_s": int(FAST_FOR.total_seconds())}
    device_commands.queue(session, run.serial, "set_interval", params, now)
    run.progress = {**run.progress, "asked_at": now.isoformat()}


def _judged(session: Session, ticket: Ticket, run: TestRun, verdict: Verdict, now: datetime) -> None:
    good = verdict.outcome is Outcome.PASSED
    reason = verdict.said[0] if verdict.said else None
    _end(session, ticket, run, verdict, "probation_passed" if good else "probation_failed", reason, now)
    if good:
        return
    detail: dict[str, object] = {"run": run.id, "earlier": ticket.id}
    if ticket.state == State.VERIFIED:
        change(session, ticket, Action.BACK_TO_REPAIR, SYSTEM, now, reason=NOT_CLEANING, detail=detail)
        if ticket.assignee_id is not None:
            _tell(session, ticket, run.serial, now, person_id=ticket.assignee_id)
    else:
        open_rework(session, ticket, NOT_CLEANING, now, detail)
    _tell(session, ticket, run.serial, now, role=Role.MANAGER)
    session.flush()


def _tell(
    session: Session,
    ticket: Ticket,
    serial: str,
    now: datetime,
    *,
    role: Role | None = None,
    person_id: int | None = None,
) -> None:
    notify(
        session, now, "danger", "{serial} failed its probation in dirty air", ticket=ticket, role=role,
        person_id=person_id, serial=serial,
    )  # fmt: skip


def _end(
    session: Session,
    ticket: Ticket,
    run: TestRun | None,
    verdict: Verdict | None,
    action: str,
    reason: Reason | None,
    now: datetime,
) -> None:
    detail: dict[str, object] = {"said": dataclasses.asdict(reason)} if reason else {}
    told = in_english(reason) if reason else ""
    if run is not None:
        detail["run"] = run.id
        if verdict is None:
            said = (reason,) if reason else ()
            verdict = Verdict(
                Outcome.INCONCLUSIVE, None, 0.0, PROBATION.min_active_s, 0.0, (), (told,) if told else (), said=said
            )
        elif verdict.decided_at is not None:
            detail["decided_at"] = from_ms(verdict.decided_at).isoformat()
        evidence.seal(session, run, dataclasses.replace(verdict, probation=False), now)
    ticket.probation_until = None
    journal(session, now, SYSTEM, action, ticket=ticket, reason=told, detail=detail)
    session.flush()
