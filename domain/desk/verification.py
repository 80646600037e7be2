"""The test run: measure, judge, record the verdict once; extend, or waive with a reason."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Container, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from domain.catalogue.model import ModelCard, card_from_mapping
from domain.catalogue.plans import TestPlan, plan_from_json
from domain.clock import from_ms
from domain.desk import evidence
from domain.desk.actor import SYSTEM, Actor
from domain.desk.door import change, journal, notify, run_of, stop, verified
from domain.desk.form import Form, checked
from domain.desk.visit import TEST_INTERVAL_S, start_run
from domain.errors import ForbiddenError, InvalidError, RefusedError
from domain.readings import Reading
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import TestRun, Ticket
from domain.tickets import deadlines
from domain.tickets.states import Action, Role, State
from domain.verdicts import Outcome, Verdict
from domain.verification.judge import judge

log = structlog.get_logger()

SETTLE = timedelta(seconds=max(2 * TEST_INTERVAL_S, 15))
"""A verdict other than Failed waits this long after its window, so that late samples count (architecture.md)."""
SILENCE_LIMIT = timedelta(hours=24)
"""A machine that went silent has this long to deliver what it buffered; then the run is Inconclusive."""

OUTCOME_ACTION: Mapping[Outcome, Action] = {
    Outcome.PASSED: Action.VERDICT_PASSED,
    Outcome.FAILED: Action.VERDICT_FAILED,
    Outcome.INCONCLUSIVE: Action.VERDICT_INCONCLUSIVE,
}


def append_samples(session: Session, readings: Iterable[Reading], now: datetime) -> int:
    """Keep the readings of machines whose runs are being measured, as evidence of each; returns how many were new."""
    by_serial: dict[str, list[Reading]] = {}
    for reading in readings:
        by_serial.setdefault(reading.serial, []).append(reading)
    runs = query.runs_wanting_samples(session, list(by_serial))
    return sum(evidence.append(session, run, by_serial[run.serial], now) for run in runs)


def measured_serials(session: Session) -> list[str]:
    """Machines whose runs are being measured."""
    return query.measured_serials(session)


def judge_run(session: Session, run: TestRun, *, ended: bool) -> Verdict:
    """Judge the samples so far by the run's own plan; re-computable at any time with the same answer.

    Once a verdict was recorded, only what was sealed with it counts, not what the run says since.
    """
    terms = evidence.terms(run, query.verdict(session, run.id))
    return judge(
        plan_of(terms),
        card_of(terms),
        evidence.samples(session, run),
        original_rule=terms["original_rule"] or None,
        entries=terms["entries"],
        demo_site=terms["demo_site"],
        target_l=terms["target_l"],
        ended=ended,
    )


def plan_of(terms: Mapping[str, Any]) -> TestPlan:
    """The plan as it was copied when the run began; ``terms`` as :func:`evidence.terms` gives them."""
    return plan_from_json(json.dumps(terms["plan"]))


def card_of(terms: Mapping[str, Any]) -> ModelCard:
    """The model card as it was copied when the run began."""
    return card_from_mapping(terms["card"], equipment_type=terms["card"]["type"])


def judge_running(session: Session, now: datetime, *, ours: Container[str] | None = None) -> None:
    """Judge every run that has new samples or whose time is up; record what is decided.

    With ``ours`` only runs of these machines: another gateway, which may be behind, holds the samples of the others.
    """
    for run_id, ticket_id, serial in query.measured_run_ids(session):
        if ours is not None and serial not in ours:
            continue
        try:
            with session.begin_nested():
                query.ticket(session, ticket_id, lock=True)  # before its run, as every command does
                run = query.measured_run(session, run_id)
                if run is not None:
                    _judge_one(session, run, now)
        except SQLAlchemyError:
            raise
        except Exception:  # one run that cannot be judged must not keep the others waiting
            log.exception("run_not_judged", run=run_id)


def _judge_one(session: Session, run: TestRun, now: datetime) -> None:
    longest = timedelta(seconds=run.plan["cap_s"] + run.plan["rest_s"]) + SILENCE_LIMIT
    ended = now - (run.last_sample_at or run.started_at) >= SILENCE_LIMIT or now - run.started_at >= longest
    if run.samples == run.judged_samples and not ended and not run.progress.get("decided"):
        return
    verdict = judge_run(session, run, ended=ended)
    run.judged_samples = run.samples
    decided = verdict.outcome is not Outcome.PENDING
    run.progress = {**evidence.verdict_body(verdict), "decided": decided}
    if verdict.outcome is Outcome.FAILED or ended or (decided and _settled(run, verdict, now)):
        record_verdict(session, run, verdict, now)


def _settled(run: TestRun, verdict: Verdict, now: datetime) -> bool:
    window_end = from_ms(verdict.decided_at) if verdict.decided_at is not None else run.last_sample_at
    return window_end is None or now - window_end >= SETTLE


def record_verdict(session: Session, run: TestRun, verdict: Verdict, now: datetime) -> None:
    """Seal the evidence and move the ticket; recorded once, a voided or decided run is left alone."""
    ticket = query.ticket(session, run.ticket_id, lock=True)
    if run.outcome != Outcome.PENDING or run.voided_at is not None or ticket.state != State.TESTING:
        return
    evidence.seal(session, run, verdict, now)
    reason = verdict.reasons[0] if verdict.reasons else ""
    change(
        session, ticket, OUTCOME_ACTION[verdict.outcome], SYSTEM, now, reason=reason,
        detail={
            "run": run.id, "attempt": run.attempt, "probation": verdict.probation,
            **({"said": dataclasses.asdict(verdict.said[0])} if verdict.said else {}),
        },
    )  # fmt: skip
    if verdict.outcome is Outcome.FAILED:
        stop(session, run.serial, now)
    if verdict.outcome is Outcome.PASSED:
        verified(ticket, now, waived=False, probation_until=now + deadlines.WATCH_FOR if verdict.probation else None)
    elif ticket.assignee_id is not None:
        notify(
            session, now, "warning" if verdict.outcome is Outcome.INCONCLUSIVE else "danger",
            "Test run of {serial}: {outcome}", ticket=ticket, person_id=ticket.assignee_id,
            serial=run.serial, outcome=verdict.outcome.value,
        )  # fmt: skip
    session.flush()


def enter(session: Session, run_id: int, actor: Actor, key: str, value: float | bool, now: datetime) -> TestRun:
    """A technician's own entry for a run (forced trip, insulation, …) while it is being measured; journalled.

    Raises InvalidError for an entry that the plan does not ask for or of the wrong kind, ForbiddenError for anybody but the
    technician of the ticket, RefusedError after the verdict.
    """
    ticket = query.ticket(session, query.run(session, run_id).ticket_id, lock=True)
    if Role.TECHNICIAN not in actor.roles or ticket.assignee_id != actor.person_id:
        raise ForbiddenError("This ticket is not assigned to you")
    run = query.measured_run(session, run_id)
    if run is None:
        raise RefusedError("This test run is over")
    asked = next((entry for entry in plan_of(evidence.terms(run, None)).entries if entry.key == key), None)
    if asked is None:
        raise InvalidError("The plan does not ask for '{key}'", field=key, key=key)
    if asked.numeric == isinstance(value, bool) or (asked.numeric and not math.isfinite(value)):
        raise InvalidError("Must be a number" if asked.numeric else "Must be yes or no", field=key)
    run.entries = {**run.entries, key: value}
    run.judged_samples = -1
    journal(session, now, actor, "entry", ticket=ticket, detail={"key": key, "value": value})
    session.flush()
    return run


def extend_test(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """Measure again after an Inconclusive run, by the same plan."""
    change(session, ticket, Action.EXTEND_TEST, actor, now, version=version)
    last = run_of(session, ticket)
    if last is None or ticket.serial is None:
        raise RefusedError("There is no test run to repeat")
    start_run(
        session, ticket, registry.machine(session, ticket.serial), actor, now,
        measure="", target_l=last.target_l, plan=last.plan,
    )  # fmt: skip
    session.flush()
    return ticket


def waive(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """A manager takes the responsibility, with a reason: marked on the ticket, journalled, rules armed again in 30 min."""
    values = checked(Action.WAIVE, form)
    change(session, ticket, Action.WAIVE, actor, now, version=version, reason=values["reason"])
    present = run_of(session, ticket)
    run = query.measured_run(session, present.id) if present else None
    if run is not None:
        evidence.seal(session, run, judge_run(session, run, ended=True), now)
    verified(ticket, now, waived=True)
    notify(
        session, now, "warning", "{name} waived the test run of {serial}", ticket=ticket, role=Role.MANAGER,
        name=actor.name, serial=ticket.serial or "",
    )  # fmt: skip
    session.flush()
    return ticket
