"""``/unclaimed``: machines that speak and that nobody has registered. Claiming one is registering it; the gateway then takes in
what is held of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi.responses import Response

from domain.desk.strangers import dismiss
from domain.store import strangers
from portal.deps import Page, page_router, require
from portal.equipment_view import CONVENTIONS
from portal.fields import RowId
from portal.language import Message, _
from portal.pages.quarantine import legible
from portal.permissions import Permission

router = page_router()
Viewer = Annotated[Page, require(Permission.SEE_QUARANTINE)]
Handler = Annotated[Page, require(Permission.REPLAY_QUARANTINE)]

STATES: Mapping[str, str] = {
    strangers.WAITING: _("Waiting"),
    strangers.CLAIMED: _("Being taken in"),
    strangers.ADMITTED: _("Taken in"),
    strangers.DISMISSED: _("Dismissed"),
}
MOST_SHOWN = strangers.MOST_STRANGERS + 1


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """One machine; ``name`` is '' on the line that counts all others. ``claim`` is the form with what is known filled in."""

    id: int
    convention: str
    name: str
    type: str
    model: str
    fw: str
    first_heard_at: datetime
    last_heard_at: datetime
    heard: int
    held: int
    held_kib: int
    beyond: int
    taken: int
    dismissed: int
    machine: str
    handled_at: datetime | None
    claim: str


@dataclass(frozen=True, slots=True)
class UnclaimedView:
    """The list, and the bounds of what is held."""

    rows: tuple[Unclaimed, ...]
    state: str
    states: tuple[tuple[str, str, int], ...]
    messages_of_one: int
    mib_of_one: int
    mib_of_all: int
    most: int
    may_claim: bool
    may_dismiss: bool


@router.get("/unclaimed")
def index(page: Viewer, state: str = strangers.WAITING) -> Response:
    """Who waits, those heard last first; or what became of the others."""
    state = state if state in STATES else strangers.WAITING
    with page.read() as session:
        counts = strangers.counts(session)
        rows = tuple(
            Unclaimed(
                id=row.id,
                convention=CONVENTIONS.get(row.convention, row.convention),
                name=legible((row.serial or row.name).encode()),
                type=row.type,
                model=legible(row.model.encode()),
                fw=legible(row.fw.encode()),
                first_heard_at=row.first_heard_at,
                last_heard_at=row.last_heard_at,
                heard=row.heard,
                held=row.held,
                held_kib=-(-row.held_bytes // 1024),
                beyond=row.beyond,
                taken=row.taken,
                dismissed=row.dismissed,
                machine=row.machine or "",
                handled_at=row.handled_at,
                claim=claim_address(row.serial, row.type, row.model, row.convention, row.name),
            )
            for row in strangers.known(session, state)[:MOST_SHOWN]
        )
    view = UnclaimedView(
        rows=rows,
        state=state,
        states=tuple((key, text, counts.get(key, 0)) for key, text in STATES.items()),
        messages_of_one=strangers.MESSAGES_OF_ONE,
        mib_of_one=strangers.BYTES_OF_ONE >> 20,
        mib_of_all=strangers.BYTES_OF_ALL >> 20,
        most=strangers.MOST_STRANGERS,
        may_claim=page.user.may(Permission.EDIT_EQUIPMENT),
        may_dismiss=page.user.may(Permission.REPLAY_QUARANTINE),
    )
    return page.show("unclaimed/index.html", view)


@router.post("/unclaimed/{stranger_id}/dismiss")
def give_up(page: Handler, stranger_id: RowId) -> Response:
    """Gives up what is held of a machine that is not ours."""
    with page.command() as session:
        count = dismiss(session, page.actor, stranger_id, page.now)
    return page.go("/unclaimed", Message("Dismissed; messages given up: {count}", count=count))


def claim_address(serial: str, equipment_type: str, model: str, convention: str, name: str) -> str:
    """The form of a new machine with what is known of this one."""
    known = {"claim": "1", "serial": serial, "type": equipment_type, "model": model}
    if convention:
        known |= {"convention": convention, "topic": name}
    return "/equipment/new?" + urlencode({key: text for key, text in known.items() if text})
