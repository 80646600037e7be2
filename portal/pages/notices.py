"""``/notices``: what brewair tells a role or a person: escalations, reworks, warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Form as FormField
from fastapi.responses import Response

from domain.desk.notices import mark_all_read, mark_read
from domain.store.queries import tickets as query
from portal.deps import Page, page_router, require
from portal.language import Message
from portal.permissions import Permission
from portal.ticket_view import NoticeLine, notice_lines

router = page_router()
Reader = Annotated[Page, require(Permission.SEE_NOTICES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticesView:
    """Notices of the reader, the latest first; ``newest`` is what 'all read' goes up to."""

    notices: tuple[NoticeLine, ...]
    unread: int
    every: bool
    newest: int


@router.get("/notices")
def index(page: Reader, all: str = "") -> Response:
    """Unread ones, or with ``all`` the read ones too."""
    with page.read() as session:
        found = query.notices(session, person_id=page.user.id, roles=page.user.roles, unread_only=not all, limit=200)
        lines = notice_lines(found)
    view = NoticesView(
        notices=lines,
        unread=sum(line.read_at is None for line in lines),
        every=bool(all),
        newest=max((line.id for line in lines), default=0),
    )
    return page.show("notices/index.html", view)


@router.post("/notices/read")
def read_all(page: Reader, newest: Annotated[str, FormField()] = "") -> Response:
    """All of them up to the newest one the reader saw."""
    with page.command() as session:
        count = mark_all_read(session, page.actor, int(newest) if newest.isdigit() else 0, page.now)
    return page.go("/notices", Message("Marked as read: {count}", count=count))


@router.post("/notices/{notice_id}/read")
def read(
    page: Annotated[Page, require(Permission.SEE_TICKETS)], notice_id: int, next: Annotated[str, FormField()] = ""
) -> Response:
    """One of them; also from a technician's day, and on the way to its ticket."""
    with page.command() as session:
        mark_read(session, page.actor, notice_id, page.now)
    return page.go(next if next == "/today" or next.startswith("/tickets/") else "/notices")
