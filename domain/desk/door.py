"""The one door through which a ticket changes state.

Every command goes through :func:`change`: it checks the table's transition, role and guards, moves the deadline clock,
writes the journal, and bumps the version (a compare-and-set when the transaction flushes).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified

from domain.desk import device_commands, evidence
from domain.desk.actor import Actor
from domain.errors import ConflictError
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import Journal, Notice, TestRun, Ticket
from domain.tickets.deadlines import REARM_AFTER
from domain.tickets.states import (
    STATES,
    TERMINAL,
    VOIDS_VERDICT,
    Action,
    Deadline,
    Facts,
    Kind,
    Role,
    State,
    check,
)
from domain.verdicts import Outcome, Verdict
from domain.verification.reasons import in_english, say

ENDED_EARLY = Verdict(
    Outcome.INCONCLUSIVE, None, 0.0, 0.0, 0.0, (), (in_english(say("ended_by_person")),), said=(say("ended_by_person"),)
)


def facts_of(session: Session, ticket: Ticket, *, actor: Actor | None = None, telemetry_normal: bool = False) -> Facts:
    """What the guards look at, read inside the command's transaction; ``actor`` is the one who wants to act."""
    runs = [run for run in query.runs(session, ticket.id) if run.voided_at is None]
    return Facts(
        kind=Kind(ticket.kind),
        repair_started=ticket.repair_started_at is not None,
        passed_after_last_repair=any(
            body["outcome"] == Outcome.PASSED
            and _not_before(datetime.fromisoformat(body["run"]["started_at"]), ticket.last_repair_at)
            for body in query.sealed(session, [run.id for run in runs if run.outcome == Outcome.PASSED])
        ),
        waived_after_last_repair=ticket.waived_at is not None and _not_before(ticket.waived_at, ticket.last_repair_at),
        telemetry_normal=telemetry_normal,
        has_telemetry=_has_telemetry(session, ticket),
        deadline_extended=ticket.deadline_extended,
        run_open=any(run.outcome == Outcome.PENDING for run in runs),
        has_machine=ticket.serial is not None,
        own_ticket=actor is None or ticket.assignee_id == actor.person_id,
    )


def _has_telemetry(session: Session, ticket: Ticket) -> bool:
    status = registry.status(session, ticket.serial) if ticket.serial else None
    return status is not None and status.last_ts_ms is not None


def _not_before(moment: datetime, earlier: datetime | None) -> bool:
    return earlier is None or moment >= earlier


def change(
    session: Session,
    ticket: Ticket,
    action: Action,
    actor: Actor,
    now: datetime,
    *,
    version: int | None = None,
    reason: str = "",
    detail: dict[str, object] | None = None,
    facts: Facts | None = None,
) -> Ticket:
    """Move ``ticket`` by ``action``; ``version`` is what the actor saw when deciding.

    Raises ConflictError (stale version), IllegalTransitionError, ForbiddenError (role, or a technician on another's ticket)
    and RefusedError (guard). The caller has locked the ticket.
    """
    if version is not None and version != ticket.version:
        raise ConflictError("Somebody else changed this first; look again and repeat")
    before = State(ticket.state)
    after = check(before, action, actor.roles, facts or facts_of(session, ticket, actor=actor))
    told = _row(now, actor, action.value, ticket, ticket.serial, before, after, reason, detail)
    # first, and past the unit of work, which would write the ticket before it: the database refuses a state nobody told
    session.connection().execute(insert(Journal), [told])
    ticket.state = after.value
    move_clock(ticket, before, after, now)
    if action in VOIDS_VERDICT:
        void_verdicts(session, ticket, now)
    # The row must change even where the state stays, or two people could act on one version.
    flag_modified(ticket, "state")
    session.flush()
    return ticket


def move_clock(ticket: Ticket, before: State, after: State, now: datetime) -> None:
    """The deadline stands still in paused states: it moves by the length of a pause when the pause ends."""
    was, becomes = STATES[before].deadline, STATES[after].deadline
    if was is Deadline.PAUSED and becomes is not Deadline.PAUSED and ticket.paused_at is not None:
        pause = now - ticket.paused_at
        ticket.due_at += pause
        ticket.paused_s += pause.total_seconds()
        ticket.paused_at = None
    if becomes is Deadline.PAUSED and was is not Deadline.PAUSED:
        ticket.paused_at = now
    if after in TERMINAL:
        ticket.ended_at = now


def void_verdicts(session: Session, ticket: Ticket, now: datetime) -> None:
    """No verdict or waiver given so far counts any longer; a run that is still measured ends without one."""
    waiting = query.probation_run(session, ticket.id)
    if waiting is not None:
        evidence.seal(session, waiting, ENDED_EARLY, now)
    for run in query.runs(session, ticket.id):
        if run.voided_at is None:
            if run.outcome == Outcome.PENDING:
                evidence.seal(session, run, ENDED_EARLY, now)
                stop(session, run.serial, now)
            run.voided_at = now
    ticket.waived_at = None
    ticket.verified_at = None
    ticket.rearm_at = None
    ticket.probation_until = None


def stop(session: Session, serial: str, now: datetime) -> None:
    """Tell a machine to end its test, unless another ticket of it is still being measured."""
    if not any(
        run.outcome == Outcome.PENDING and run.voided_at is None for run in query.runs_of_machine(session, serial)
    ):
        device_commands.queue(session, serial, "stop", {}, now)


def verified(ticket: Ticket, now: datetime, *, waived: bool, probation_until: datetime | None = None) -> None:
    """Mark a ticket that has just reached ``verified``."""
    ticket.verified_at = now
    ticket.probation_until = probation_until
    if waived:
        ticket.waived_at = now
        ticket.rearm_at = now + REARM_AFTER


def journal(
    session: Session,
    now: datetime,
    actor: Actor,
    action: str,
    *,
    ticket: Ticket | None = None,
    serial: str | None = None,
    before: State | None = None,
    after: State | None = None,
    reason: str = "",
    detail: dict[str, object] | None = None,
) -> None:
    """Write down what happened."""
    session.add(Journal(**_row(now, actor, action, ticket, serial, before, after, reason, detail)))


def _row(
    now: datetime,
    actor: Actor,
    action: str,
    ticket: Ticket | None,
    serial: str | None,
    before: State | None,
    after: State | None,
    reason: str,
    detail: dict[str, object] | None,
) -> dict[str, object]:
    return {
        "at": now,
        "ticket_id": ticket.id if ticket else None,
        "serial": ticket.serial if ticket else serial,
        "actor_id": actor.person_id,
        "actor_name": actor.name,
        "action": action,
        "from_state": before.value if before else "",
        "to_state": after.value if after else "",
        "reason": reason,
        "detail": detail or {},
    }


def notify(
    session: Session,
    now: datetime,
    level: str,
    message_id: str,
    *,
    ticket: Ticket | None = None,
    role: Role | None = None,
    person_id: int | None = None,
    **params: object,
) -> None:
    """Leave a notice for a role or a person; ``level`` is info, warning or danger."""
    session.add(
        Notice(
            at=now,
            level=level,
            message_id=message_id,
            params=params,
            role=role.value if role else "",
            person_id=person_id,
            ticket_id=ticket.id if ticket else None,
        )
    )


def run_of(session: Session, ticket: Ticket) -> TestRun | None:
    """The latest test run of a ticket that still counts."""
    return next((run for run in query.runs(session, ticket.id) if run.voided_at is None), None)
