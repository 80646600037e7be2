"""What the hotline does with a ticket: phone guidance that telemetry ends, a visit, consent to a charge."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from domain.clock import from_ms
from domain.desk.actor import SYSTEM, Actor
from domain.desk.door import change, facts_of, notify
from domain.desk.form import Form, checked
from domain.findings import Kind, Severity
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import Ticket
from domain.tickets import deadlines
from domain.tickets.states import Action, Role
from domain.tickets.states import Kind as TicketKind

NORMAL_FOR = timedelta(minutes=3)
GUIDE_WITHIN = timedelta(minutes=10)
"""Normal telemetry for ≥ 3 min within 10 min closes a false fault (equipment.md §5.3, EJ)."""


def guide(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """Talk the customer through the self-check; the machine is watched from now on."""
    values = checked(Action.GUIDE, form)
    ticket.guided_at = now
    return change(session, ticket, Action.GUIDE, actor, now, version=version, reason=values["note"])


def normal_since(session: Session, ticket: Ticket) -> datetime | None:
    """Since when the machine has been reporting without a finding that matters; None while it has one or is silent.

    Findings that matter are those of this ticket, and any of severity P1 or P2. Counted from the start of the guidance at the
    earliest: what was normal before did not help the customer.
    """
    status = registry.status(session, ticket.serial) if ticket.serial else None
    if ticket.guided_at is None or status is None or status.last_seen_at is None or status.online is False:
        return None
    lasting = query.uncleared_findings(session, status.serial)
    if any(row.ticket_id == ticket.id or row.severity <= Severity.P2 for row in lasting):
        return None
    cleared = [from_ms(row.cleared_at_ms) for row in query.findings(session, ticket.id) if row.cleared_at_ms]
    since = max([ticket.guided_at, *cleared])
    return since if status.last_seen_at >= since else None


def telemetry_normal(session: Session, ticket: Ticket, now: datetime) -> bool:
    """Whether the machine has been normal for at least 3 minutes, up to its newest reading."""
    since = normal_since(session, ticket)
    status = registry.status(session, ticket.serial) if ticket.serial else None
    if since is None or status is None or status.last_seen_at is None:
        return False
    return status.last_seen_at - since >= NORMAL_FOR and now - status.last_seen_at <= NORMAL_FOR


def solve_by_phone(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """Close without a visit, once telemetry shows the machine normal (or it has no telemetry, with a reason).

    What telemetry showed stays in the journal as evidence; the machine is watched for 72 h.
    """
    values = checked(Action.SOLVE_BY_PHONE, form)
    facts = facts_of(session, ticket, actor=actor, telemetry_normal=telemetry_normal(session, ticket, now))
    since = normal_since(session, ticket)
    status = registry.status(session, ticket.serial) if ticket.serial else None
    detail: dict[str, object] = {
        "normal_since": since.isoformat() if since else "",
        "telemetry": facts.has_telemetry,
        "latest": status.latest if status else {},
    }
    change(
        session, ticket, Action.SOLVE_BY_PHONE, actor, now, version=version, reason=values["reason"], detail=detail,
        facts=facts,
    )  # fmt: skip
    if ticket.kind == TicketKind.REPAIR:
        ticket.fault_kind = Kind.FALSE.value
        ticket.probation_until = now + deadlines.WATCH_FOR
    session.flush()
    return ticket


def watch_guided(session: Session, now: datetime) -> None:
    """Close guided tickets whose finding has gone and whose machine is normal; tell the operator after ten minutes without.

    Where telemetry never saw the complaint, its silence proves nothing: the operator asks the customer.
    """
    for ticket in query.guided(session):
        if query.findings(session, ticket.id) and telemetry_normal(session, ticket, now):
            solve_by_phone(session, ticket, SYSTEM, {"reason": "The machine has been normal for 3 minutes"}, now, None)
        elif ticket.guided_at and now - ticket.guided_at > GUIDE_WITHIN and not ticket.triage.get("guide_overdue"):
            ticket.triage = {**ticket.triage, "guide_overdue": True}
            notify(
                session, now, "warning", "The self-check of {serial} did not help within 10 minutes", ticket=ticket,
                role=Role.OPERATOR, serial=ticket.serial or "",
            )  # fmt: skip


def visit_needed(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """Hand over to dispatch."""
    values = checked(Action.VISIT_NEEDED, form)
    return change(session, ticket, Action.VISIT_NEEDED, actor, now, version=version, reason=values["note"])


def ask_consent(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """The customer has been told the estimate; the deadline stands still until the answer."""
    values = checked(Action.ASK_CONSENT, form)
    return change(
        session, ticket, Action.ASK_CONSENT, actor, now, version=version, detail={"estimate": values["estimate"]}
    )


def consent(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """Who consented and how."""
    values = checked(Action.CONSENT, form)
    return change(session, ticket, Action.CONSENT, actor, now, version=version, detail=dict(values))


def refuse(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """No consent: the manager ends the ticket with a reason."""
    values = checked(Action.REFUSE, form)
    return change(session, ticket, Action.REFUSE, actor, now, version=version, reason=values["reason"])
