"""How a ticket ends."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from domain.desk.actor import Actor
from domain.desk.door import change
from domain.desk.form import Form, checked
from domain.desk.intake import reopen_what_lasts
from domain.store.tables import Ticket
from domain.tickets import deadlines
from domain.tickets.states import Action, Kind

WARRANTY = timedelta(days=365)
"""From the accepted installation on, where nobody entered another day (EJ)."""


def close(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """Done: a Passed verdict after the last repair, or a waiver; the same rule for page, API and bulk.

    An accepted installation starts the warranty. What still lasts and the verdict did not disprove lives on in tickets of its
    own; after a waiver only when the rules are armed again.
    """
    change(session, ticket, Action.CLOSE, actor, now, version=version)
    if ticket.kind == Kind.INSTALLATION and ticket.equipment is not None:
        ticket.equipment.installed_on = now.date()
        ticket.equipment.warranty_until = ticket.equipment.warranty_until or now.date() + WARRANTY
    if ticket.waived_at is None:
        reopen_what_lasts(session, ticket, now)
    session.flush()
    return ticket


def cancel(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """Only before anybody touched the machine, with a reason."""
    values = checked(Action.CANCEL, form)
    return change(session, ticket, Action.CANCEL, actor, now, version=version, reason=values["reason"])


def extend_deadline(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """48 hours instead of 24, once, with a reason; warnings start anew."""
    values = checked(Action.EXTEND_DEADLINE, form)
    change(session, ticket, Action.EXTEND_DEADLINE, actor, now, version=version, reason=values["reason"])
    ticket.deadline_extended = True
    ticket.due_at += deadlines.EXTENDED - deadlines.STANDARD
    ticket.warned_at = ticket.escalated_at = None
    session.flush()
    return ticket
