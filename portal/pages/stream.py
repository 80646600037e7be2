"""``/live``: the event stream of a page. The only ``async`` endpoint of the portal."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from domain.errors import BrewairError, NotFoundError
from domain.store.queries import tickets
from portal.deps import Page, may_see, page_router, portal_of, require
from portal.live import events
from portal.permissions import Permission

router = page_router()


@router.get("/live")
async def live(
    request: Request,
    page: Annotated[Page, require(Permission.SEE_TICKETS)],
    ticket: int | None = None,
    last_event_id: Annotated[str, Header()] = "",
) -> StreamingResponse:
    """Events of one ticket, or of all for those who may see all."""
    portal = portal_of(request)
    token = request.cookies.get(portal.session_cookie)

    def allowed() -> bool:
        user = portal.logins.who(token, note=False)
        if user is None:
            return False
        if ticket is None:
            return user.may(Permission.SEE_ALL_TICKETS)
        try:
            with portal.sessions.read() as session:
                return may_see(user, tickets.ticket(session, ticket))
        except BrewairError:
            return False

    if not await run_in_threadpool(allowed):
        raise NotFoundError("There is no such page")
    since = int(last_event_id) if last_event_id.isdigit() else None
    stream = events(portal.live, portal.live.subscribe(ticket), allowed, since)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
