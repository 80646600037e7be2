"""Who goes: ranking, assigning, accepting, declining, expiring."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from domain.desk.actor import SYSTEM, Actor
from domain.desk.door import change, notify
from domain.desk.form import Form, checked, identifier, moment
from domain.errors import InvalidError
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import Person, Ticket
from domain.tickets import deadlines
from domain.tickets.assignment import Candidate, Proposal, rank
from domain.tickets.states import Action, Role


def propose(session: Session, ticket: Ticket) -> list[Proposal]:
    """Technicians with the skill for this ticket's machine, best first, with reasons."""
    if ticket.equipment is None:
        return []
    loads = registry.open_ticket_counts(session)
    at_machine, at_site = registry.visit_counts(session, serial=ticket.serial, site_id=ticket.site_id)
    candidates = [
        Candidate(
            person_id=person.id,
            name=person.name,
            skills=frozenset(person.skills),
            region=person.region,
            open_tickets=loads.get(person.id, 0) - (1 if ticket.assignee_id == person.id else 0),
            visits_to_machine=at_machine.get(person.id, 0),
            visits_to_site=at_site.get(person.id, 0),
        )
        for person in registry.people(session, role=Role.TECHNICIAN, active_only=True)
    ]
    region = ticket.site.region if ticket.site else ""
    return rank(candidates, equipment_type=ticket.equipment.type, region=region)


def _technician(session: Session, ticket: Ticket, form: Form) -> Person:
    person = registry.person(session, identifier(form, "assignee"))
    if not person.active or Role.TECHNICIAN not in person.roles:
        raise InvalidError("{name} is not a technician on duty", field="assignee", name=person.name)
    if ticket.equipment is not None and ticket.equipment.type not in person.skills:
        raise InvalidError("{name} is not trained for this equipment type", field="assignee", name=person.name)
    return person


def _hand_over(
    session: Session, ticket: Ticket, action: Action, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    values = checked(action, form)
    person = _technician(session, ticket, form)
    window_from, window_to = moment(values, "window_from"), moment(values, "window_to")
    if window_from and window_to and window_to <= window_from:
        raise InvalidError("The window must end after it begins", field="window_to")
    if window_from and window_to:
        booked = query.booked_between(session, person.id, window_from, window_to, but=ticket.id)
        if booked is not None:
            raise InvalidError(
                "{name} has another visit then: ticket {number}",
                field="window_from",
                name=person.name,
                number=booked.id,
            )
    change(
        session, ticket, action, actor, now, version=version, reason=values.get("reason", ""),
        detail={"assignee": person.name, "before": ticket.assignee.name if ticket.assignee else ""},
    )  # fmt: skip
    ticket.assignee_id, ticket.assignee = person.id, person
    ticket.window_from, ticket.window_to = window_from, window_to
    ticket.dispatched_at = now
    notify(session, now, "info", "New job: {serial}", ticket=ticket, person_id=person.id, serial=ticket.serial or "")
    session.flush()
    return ticket


def assign(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """Give the ticket to a technician who has the skill."""
    return _hand_over(session, ticket, Action.ASSIGN, actor, form, now, version)


def reassign(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """Give it to somebody else, with a reason; a verdict given before no longer counts."""
    return _hand_over(session, ticket, Action.REASSIGN, actor, form, now, version)


def accept(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """The technician takes the job."""
    return change(session, ticket, Action.ACCEPT, actor, now, version=version)


def decline(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """The technician cannot go; back to dispatch with the reason."""
    values = checked(Action.DECLINE, form)
    change(session, ticket, Action.DECLINE, actor, now, version=version, reason=values["reason"])
    return _back_to_dispatch(session, ticket, now, "{name} declined {serial}", actor.name)


def _back_to_dispatch(session: Session, ticket: Ticket, now: datetime, message_id: str, name: str) -> Ticket:
    ticket.assignee_id = ticket.assignee = None
    ticket.dispatched_at = ticket.window_from = ticket.window_to = None
    notify(
        session, now, "warning", message_id, ticket=ticket, role=Role.DISPATCHER, name=name, serial=ticket.serial or ""
    )
    session.flush()
    return ticket


def expire_unaccepted(session: Session, now: datetime) -> None:
    """Assignments that nobody accepted in time go back to dispatch and are escalated."""
    for ticket in query.dispatched_before(session, now - deadlines.ACCEPT_WITHIN):
        name = ticket.assignee.name if ticket.assignee else ""
        change(session, ticket, Action.EXPIRE, SYSTEM, now, reason="Not accepted in time", detail={"assignee": name})
        _back_to_dispatch(session, ticket, now, NOT_ACCEPTED, name)
        notify(
            session,
            now,
            "warning",
            NOT_ACCEPTED,
            ticket=ticket,
            role=Role.MANAGER,
            name=name,
            serial=ticket.serial or "",
        )


NOT_ACCEPTED = "{name} did not accept {serial} in time"
