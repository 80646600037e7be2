"""``/runs/{id}``: one test run, live while it is measured, sealed afterwards; and the checks that a person enters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Form as FormField
from fastapi.responses import Response

from domain.desk.form import number
from domain.desk.verification import enter
from domain.errors import ForbiddenError, InvalidError, NotFoundError, RefusedError
from domain.store.queries import tickets as query
from portal.actions import Actions, actions_of
from portal.deps import Page, page_router, refused_form, require
from portal.errors import status_of
from portal.language import Message
from portal.permissions import Permission
from portal.render import Form
from portal.run_panel import RunPanel, run_panel
from portal.ticket_view import TicketHead, head_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.store.tables import TestRun, Ticket

router = page_router()
Reader = Annotated[Page, require(Permission.SEE_TICKETS)]
ANSWERS = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """The run with its ticket; ``actions`` for the reader's next step."""

    head: TicketHead
    run: RunPanel
    actions: Actions


@router.get("/runs/{run_id}")
def show(page: Reader, run_id: int) -> Response:
    """The run."""
    with page.read() as session:
        view = _view(page, session, run_id)
    return page.show("runs/show.html", view)


@router.post("/runs/{run_id}/entries")
def enter_check(
    page: Annotated[Page, require(Permission.VISIT)],
    run_id: int,
    key: Annotated[str, FormField()] = "",
    value: Annotated[str, FormField()] = "",
    next: Annotated[str, FormField()] = "",
) -> Response:
    """One check of the plan, by the technician whose job it is; a later one replaces it."""
    try:
        with page.command() as session:
            run, ticket = _own(page, session, run_id)
            if ticket.assignee_id != page.user.id:
                raise ForbiddenError("This ticket is not assigned to you")
            enter(session, run.id, page.actor, key, _read(run, key, value), page.now)
    except NotFoundError:
        raise
    except RefusedError as error:
        form = refused_form(error, {"value": value})
        with page.read() as session:
            view = _view(page, session, run_id, refused=(key, form))
        return page.show("runs/show.html", view, status=status_of(error))
    return page.go(
        next if next in ("/today", f"/tickets/{ticket.id}") else f"/runs/{run_id}", Message("Check recorded")
    )


def _read(run: TestRun, key: str, value: str) -> float | bool:
    if value in ANSWERS:
        return ANSWERS[value]
    figure = number({"value": value}, "value")
    if figure is None:
        raise InvalidError("Please fill in this field", field="value")
    return figure


def _own(page: Page, session: Session, run_id: int) -> tuple[TestRun, Ticket]:
    run = query.run(session, run_id)
    return run, page.ticket(session, run.ticket_id)


def _view(page: Page, session: Session, run_id: int, refused: tuple[str, Form] | None = None) -> RunView:
    run, ticket = _own(page, session, run_id)
    own = page.user.may(Permission.VISIT) and ticket.assignee_id == page.user.id
    return RunView(
        head=head_of(ticket, page.now, page.locale),
        run=run_panel(session, run, page.now, page.locale, may_enter=own, refused=refused),
        actions=actions_of(session, ticket, page.actor, page.now, page.locale),
    )
