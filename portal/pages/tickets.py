"""``/tickets/{id}``: everything about one ticket, and every action that its state and the reader's role permit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi.responses import JSONResponse, Response

from domain.catalogue.freshair.plans import DIRTY_UGM3
from domain.desk.door import journal
from domain.errors import NotFoundError, RefusedError, UnavailableError
from domain.store.queries import tickets as query
from domain.tickets.states import Action
from portal.actions import DONE, Actions, Refused, actions_of, refused, take
from portal.charts import RANGES_MIN, ChartRange, chart_of, usable_minutes
from portal.deps import FormValues, Page, page_router, require
from portal.errors import status_of
from portal.language import Message
from portal.machine_now import MachineNow, machine_now
from portal.permissions import Permission
from portal.render import Notice
from portal.run_panel import RunPanel, run_panels
from portal.ticket_view import Happening, RepairLine, TicketHead, happenings, head_of, repair_lines
from portal.triage import FindingLine, finding_lines

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.store.tables import Ticket

router = page_router()
Reader = Annotated[Page, require(Permission.SEE_TICKETS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketView:
    """One ticket. ``chart`` is None where there is no machine, or its samples cannot be read now."""

    head: TicketHead
    actions: Actions
    runs: tuple[RunPanel, ...]
    findings: tuple[FindingLine, ...]
    repairs: tuple[RepairLine, ...]
    story: tuple[Happening, ...]
    machine: MachineNow | None
    chart: ChartRange | None
    minutes: int
    ranges: tuple[int, ...] = RANGES_MIN
    dirty_ugm3: float = DIRTY_UGM3


@router.get("/tickets/{ticket_id}")
def show(page: Reader, ticket_id: int, minutes: int = 60) -> Response:
    """The ticket; ``minutes`` is the range of the chart's table."""
    with page.read() as session:
        view = view_of(page, session, ticket_id, minutes=minutes)
    return page.show("tickets/show.html", view)


@router.get("/tickets/{ticket_id}/telemetry.json")
def telemetry(page: Reader, ticket_id: int, channels: str = "", minutes: int = 60) -> JSONResponse:
    """What ``chart.js`` draws (see its header)."""
    with page.read() as session:
        ticket = page.ticket(session, ticket_id)
        if ticket.equipment is None:
            raise NotFoundError("This ticket has no machine")
        chart = chart_of(session, page.telemetry, ticket.equipment, page.now, usable_minutes(minutes), channels)
    return JSONResponse(chart.payload(page.say, page.portal.settings.timezone.key))


@router.post("/tickets/{ticket_id}/phone")
def phone(page: Annotated[Page, require(Permission.UNMASK_PHONE)], ticket_id: int) -> Response:
    """The customer's number in full; who looked is journalled."""
    with page.command() as session:
        journal(session, page.now, page.actor, "phone_shown", ticket=page.ticket(session, ticket_id))
    with page.read() as session:
        view = view_of(page, session, ticket_id, phone=True)
    return page.show("tickets/show.html", view)


@router.post("/tickets/{ticket_id}/{action}")
def act(page: Reader, ticket_id: int, action: Action, typed: FormValues) -> Response:
    """Take an action; a refused form comes back as typed, with the ticket as it is now."""
    try:
        with page.command() as session:
            ticket = page.ticket(session, ticket_id)
            take(session, page.actor, ticket, action, typed, page.now, page.with_zone)
    except NotFoundError:
        raise
    except RefusedError as error:
        back_again = refused(action, error, typed)
        with page.read() as session:
            view = view_of(page, session, ticket_id, sent_back=back_again)
        known = any(form.action == action.value for form in view.actions.every)
        notice = None if known else Notice(Message.of(error), "bad")
        return page.show("tickets/show.html", view, status=status_of(error), notice=notice)
    return page.go(f"/tickets/{ticket_id}", Message(DONE[action]))


def view_of(
    page: Page,
    session: Session,
    ticket_id: int,
    *,
    minutes: int = 60,
    sent_back: Refused | None = None,
    phone: bool = False,
) -> TicketView:
    """The view for this reader."""
    ticket, now, locale = page.ticket(session, ticket_id), page.now, page.locale
    own = page.user.may(Permission.VISIT) and ticket.assignee_id == page.user.id
    asked = usable_minutes(minutes)
    return TicketView(
        head=head_of(ticket, now, locale, phone=phone),
        actions=actions_of(session, ticket, page.actor, now, locale, sent_back),
        runs=run_panels(session, ticket, now, locale, may_enter=own),
        findings=finding_lines(query.findings(session, ticket_id)),
        repairs=repair_lines(query.repairs(session, ticket_id), locale),
        story=happenings(query.timeline(session, ticket_id), page.say, locale),
        machine=machine_now(session, ticket.equipment, now) if ticket.equipment else None,
        chart=page_chart(page, session, ticket, asked),
        minutes=asked,
    )


def page_chart(page: Page, session: Session, ticket: Ticket, minutes: int) -> ChartRange | None:
    """The samples for the table below the chart; not for a block that has no chart, nor while the store is away."""
    if ticket.equipment is None or page.wants_fragment:
        return None
    try:
        return chart_of(session, page.telemetry, ticket.equipment, page.now, minutes)
    except UnavailableError:
        return None
