"""One call for every action a person can take: the table of handlers behind every button, page, API and bulk action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from domain.desk import closing, dispatch, guidance, verification, visit
from domain.desk.actor import Actor
from domain.desk.door import facts_of
from domain.desk.form import Form
from domain.errors import ForbiddenError
from domain.store.queries import tickets as query
from domain.store.tables import Ticket
from domain.tickets.states import ACTIONS, Action, State, permitted

Handler = Callable[[Session, Ticket, Actor, Form, datetime, int | None], Ticket]

HANDLERS: Mapping[Action, Handler] = {
    Action.GUIDE: guidance.guide,
    Action.SOLVE_BY_PHONE: guidance.solve_by_phone,
    Action.VISIT_NEEDED: guidance.visit_needed,
    Action.ASK_CONSENT: guidance.ask_consent,
    Action.CONSENT: guidance.consent,
    Action.REFUSE: guidance.refuse,
    Action.ASSIGN: dispatch.assign,
    Action.REASSIGN: dispatch.reassign,
    Action.ACCEPT: dispatch.accept,
    Action.DECLINE: dispatch.decline,
    Action.LEAVE: visit.leave,
    Action.ARRIVE: visit.arrive,
    Action.WAIT_FOR_PARTS: visit.wait_for_parts,
    Action.PARTS_ARRIVED: visit.parts_arrived,
    Action.FINISH_REPAIR: visit.finish_repair,
    Action.EXTEND_TEST: verification.extend_test,
    Action.BACK_TO_REPAIR: visit.back_to_repair,
    Action.WAIVE: verification.waive,
    Action.EXTEND_DEADLINE: closing.extend_deadline,
    Action.CLOSE: closing.close,
    Action.CANCEL: closing.cancel,
}
"""Expiry and verdicts are absent: only brewair itself takes them, by its own clock and judge."""


def perform(
    session: Session,
    actor: Actor,
    ticket_id: int,
    action: Action,
    form: Form,
    now: datetime,
    *,
    version: int | None = None,
) -> Ticket:
    """Take ``action`` on a ticket; ``version`` is what the actor saw. Raises RefusedError of the kind that fits."""
    handler = HANDLERS.get(action)
    if handler is None:
        raise ForbiddenError("Your role may not '{action}'", action=ACTIONS[action].label)
    return handler(session, query.ticket(session, ticket_id, lock=True), actor, form, now, version)


def available(session: Session, actor: Actor, ticket: Ticket, now: datetime) -> tuple[Action, ...]:
    """The actions that ``perform`` would let this actor take on the ticket now, in table order."""
    facts = facts_of(session, ticket, actor=actor, telemetry_normal=guidance.telemetry_normal(session, ticket, now))
    return tuple(action for action in permitted(State(ticket.state), actor.roles, facts) if action in HANDLERS)
