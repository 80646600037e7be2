"""The test run: measure, judge, record the verdict once; extend, or waive with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified

from domain.catalogue.model import ModelCard, card_from_mapping
from domain.catalogue.plans import TestPlan, plan_from_json
from domain.clock import from_ms
from domain.desk import evidence
from domain.desk.actor import SYSTEM, Actor
from domain.desk.door import change, journal, notify, run_of, verified
from domain.desk.form import Form, checked
from domain.desk.visit import TEST_INTERVAL_S, start_run
from domain.errors import InvalidError, RefusedError
from domain.readings import Reading
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import TestRun, Ticket
from domain.tickets.states import Action, Role, State
from domain.verdicts import Outcome, Verdict
from domain.verification.judge import judge

SETTLE = timedelta(seconds=max(2 * TEST_INTERVAL_S, 15))
"""A verdict other than Failed waits this long after its window, so that late samples count (architecture.md)."""
SILENCE_LIMIT = timedelta(hours=24)
"""A machine that went silent has this long to deliver what it buffered; then the run is Inconclusive."""
PROBATION = timedelta(hours=72)
CLOCK_JUMPED = "The machine's clock jumped during the run"

OUTCOME_ACTION: Mapping[Outcome, Action] = {
    Outcome.PASSED: Action.VERDICT_PASSED,
    Outcome.FAILED: Action.VERDICT_FAILED,
    Outcome.INCONCLUSIVE: Action.VERDICT_INCONCLUSIVE,
}


def append_samples(session: Session, readings: Iterable[Reading], now: datetime) -> int:
    """Keep the readings of machines whose run is being measured, as evidence; returns how many were new."""
    by_serial = {
        serial: list(group)
        for serial, group in groupby(sorted(readings, key=lambda r: r.serial), key=lambda r: r.serial)
    }
    runs = query.running_of(session, list(by_serial))
    return sum(evidence.append(session, run, by_serial[serial], now) for serial, run in runs.items())


def judge_run(session: Session, run: TestRun, *, ended: bool) -> Verdict:
    """Judge the samples so far by the run's own plan; re-computable at any time with the same answer."""
    verdict = judge(
        plan_of_run(run),
        card_of_run(run),
        evidence.samples(session, run),
        original_rule=run.original_rule or None,
        entries=run.entries,
        demo_site=run.demo_site,
        target_l=run.target_l,
        ended=ended,
    )
    if run.clock_jumped and verdict.outcome is Outcome.PASSED:
        return Verdict(
            Outcome.INCONCLUSIVE, None, verdict.net_active_s, verdict.min_active_s, verdict.coverage, verdict.criteria,
            (CLOCK_JUMPED, *verdict.reasons),
        )  # fmt: skip
    return verdict


def plan_of_run(run: TestRun) -> TestPlan:
    """The plan as it was copied when the run began."""
    return plan_from_json(run.plan)


def card_of_run(run: TestRun) -> ModelCard:
    """The model card as it was copied when the run began."""
    return card_from_mapping(run.card, equipment_type=run.card["type"])


def judge_running(session: Session, now: datetime) -> None:
    """Judge every run that has new samples or whose time is up; record what is decided."""
    for run in query.running(session):
        silent_for = now - (run.last_sample_at or run.started_at)
        ended = silent_for >= SILENCE_LIMIT
        if run.samples == run.judged_samples and not ended and not run.progress.get("decided"):
            continue
        verdict = judge_run(session, run, ended=ended)
        run.judged_samples = run.samples
        run.progress = {**evidence.verdict_body(verdict), "decided": verdict.outcome is not Outcome.PENDING}
        if verdict.outcome is Outcome.FAILED or ended or (run.progress["decided"] and _settled(run, verdict, now)):
            record_verdict(session, run, verdict, now)


def _settled(run: TestRun, verdict: Verdict, now: datetime) -> bool:
    window_end = from_ms(verdict.decided_at) if verdict.decided_at is not None else run.last_sample_at
    return window_end is None or now - window_end >= SETTLE


def record_verdict(session: Session, run: TestRun, verdict: Verdict, now: datetime) -> None:
    """Seal the evidence and move the ticket; recorded once, a voided or decided run is left alone."""
    ticket = query.ticket(session, run.ticket_id)
    if run.outcome != Outcome.PENDING or run.voided_at is not None or ticket.state != State.TESTING:
        return
    evidence.seal(session, run, verdict, now)
    reason = verdict.reasons[0] if verdict.reasons else ""
    change(
        session, ticket, OUTCOME_ACTION[verdict.outcome], SYSTEM, now, reason=reason,
        detail={"run": run.id, "attempt": run.attempt, "probation": verdict.probation},
    )  # fmt: skip
    if verdict.outcome is Outcome.PASSED:
        verified(ticket, now, waived=False, probation_until=now + PROBATION if verdict.probation else None)
    elif ticket.assignee_id is not None:
        notify(
            session, now, "warning" if verdict.outcome is Outcome.INCONCLUSIVE else "danger",
            "Test run of {serial}: {outcome}", ticket=ticket, person_id=ticket.assignee_id,
            serial=run.serial, outcome=verdict.outcome.value,
        )  # fmt: skip
    session.flush()


def enter(session: Session, run_id: int, actor: Actor, key: str, value: float | bool, now: datetime) -> TestRun:
    """A technician's own entry for a run (forced trip, insulation, …) while it is being measured; journalled.

    Raises InvalidError for an entry that the plan does not ask for, RefusedError after the verdict.
    """
    run = query.run(session, run_id)
    if run.outcome != Outcome.PENDING or run.voided_at is not None:
        raise RefusedError("This test run is over")
    plan = plan_of_run(run)
    if key not in plan.entries:
        raise InvalidError("The plan does not ask for '{key}'", field=key, key=key)
    run.entries = {**run.entries, key: value}
    flag_modified(run, "entries")
    run.judged_samples = -1
    journal(
        session, now, actor, "entry", ticket=query.ticket(session, run.ticket_id), detail={"key": key, "value": value}
    )
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
    run = run_of(session, ticket)
    if run is not None and run.outcome == Outcome.PENDING:
        evidence.seal(session, run, judge_run(session, run, ended=True), now)
    change(session, ticket, Action.WAIVE, actor, now, version=version, reason=values["reason"])
    verified(ticket, now, waived=True)
    notify(
        session, now, "warning", "{name} waived the test run of {serial}", ticket=ticket, role=Role.MANAGER,
        name=actor.name, serial=ticket.serial or "",
    )  # fmt: skip
    session.flush()
    return ticket
