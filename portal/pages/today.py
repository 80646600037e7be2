"""``/today``: a technician's day on a phone: own jobs in order, and of the first one the one next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from fastapi.responses import Response

from domain.errors import NotFoundError, RefusedError
from domain.store.queries import service
from domain.store.queries import tickets as query
from domain.tickets.deadlines import ACCEPT_WITHIN
from domain.tickets.states import Action, State
from portal.actions import DONE, Actions, Refused, actions_of, refused, take
from portal.deps import FormValues, Page, page_router, require
from portal.errors import status_of
from portal.language import Message
from portal.permissions import Permission
from portal.render import Notice
from portal.run_panel import RunPanel, run_panels
from portal.ticket_view import NoticeLine, TicketHead, head_of, notice_lines
from portal.triage import FindingLine, finding_lines

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.store.tables import Ticket

router = page_router()
Technician = Annotated[Page, require(Permission.VISIT)]

ORDER: Sequence[tuple[State, ...]] = (
    (State.TESTING, State.VERIFIED, State.REPAIRING),
    (State.ON_THE_WAY,),
    (State.DISPATCHED,),
    (State.ACCEPTED,),
    (State.WAITING_PARTS,),
)
"""What one is in the middle of comes first; a new job comes before the accepted ones, because it expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of the day with what can be done about it; ``accept_within`` only while it waits to be accepted."""

    head: TicketHead
    actions: Actions
    accept_within: timedelta | None
    findings: tuple[FindingLine, ...]
    run: RunPanel | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TodayView:
    """The day: the job at hand, those after it, those finished today, and what one has been told."""

    current: Job | None
    later: tuple[Job, ...]
    done: tuple[TicketHead, ...]
    notices: tuple[NoticeLine, ...]


@router.get("/today")
def today(page: Technician, job: int | None = None) -> Response:
    """The day; ``job`` brings another of one's own jobs to the front."""
    with page.read() as session:
        view = _view(page, session, job)
    return page.show("today/index.html", view)


@router.post("/today/{ticket_id}/{action}")
def act(page: Technician, ticket_id: int, action: Action, typed: FormValues) -> Response:
    """Take the next step of one's own job; a refused form comes back as typed."""
    try:
        with page.command() as session:
            ticket = _own(page, session, ticket_id)
            take(session, page.actor, ticket, action, typed, page.now, page.with_zone)
    except NotFoundError:
        raise
    except RefusedError as error:
        back_again = refused(action, error, typed)
        with page.read() as session:
            view = _view(page, session, ticket_id, back_again)
        shown = view.current is not None and any(form.open for form in view.current.actions.every)
        notice = None if shown else Notice(Message.of(error), "bad")
        return page.show("today/index.html", view, status=status_of(error), notice=notice)
    return page.go(f"/today?job={ticket_id}", Message(DONE[action]))


def _own(page: Page, session: Session, ticket_id: int) -> Ticket:
    found = page.ticket(session, ticket_id)
    if found.assignee_id != page.user.id:
        raise NotFoundError("There is no ticket {id}", id=ticket_id)
    return found


def _view(page: Page, session: Session, first: int | None, sent_back: Refused | None = None) -> TodayView:
    own = sorted(query.open_tickets(session, assignee_id=page.user.id), key=lambda t: _rank(t, first))
    jobs = [_job(page, session, ticket, sent_back if ticket.id == first else None) for ticket in own]
    midnight = page.now.astimezone(page.portal.settings.timezone).replace(hour=0, minute=0, second=0, microsecond=0)
    unread = query.notices(session, person_id=page.user.id, roles=(), limit=5)
    return TodayView(
        current=jobs[0] if jobs else None,
        later=tuple(jobs[1:]),
        done=tuple(
            head_of(ticket, page.now, page.locale)
            for ticket in service.ended_of_person(session, page.user.id, midnight)
        ),
        notices=notice_lines(unread),
    )


def _rank(ticket: Ticket, first: int | None) -> tuple[bool, int, datetime, int]:
    stage = next((place for place, states in enumerate(ORDER) if ticket.state in states), len(ORDER))
    return ticket.id != first, stage, ticket.window_from or ticket.due_at, ticket.id


def _job(page: Page, session: Session, ticket: Ticket, sent_back: Refused | None) -> Job:
    runs = run_panels(session, ticket, page.now, page.locale, may_enter=True)
    waits = ticket.state == State.DISPATCHED and ticket.dispatched_at is not None
    return Job(
        head=head_of(ticket, page.now, page.locale),
        actions=actions_of(session, ticket, page.actor, page.now, page.locale, sent_back),
        accept_within=ticket.dispatched_at + ACCEPT_WITHIN - page.now if waits and ticket.dispatched_at else None,
        findings=finding_lines(query.findings(session, ticket.id)),
        run=next((run for run in runs if run.voided_at is None), runs[0] if runs else None),
    )
