"""``/board``: open tickets by state with their deadlines; live. The model of a page: view dataclass, one read, one template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from fastapi.responses import Response

from domain.store.queries import registry, tickets
from domain.tickets import deadlines
from domain.tickets.deadlines import Clock, DeadlineView
from domain.tickets.states import Role, State
from portal.deps import Page, page_router, require
from portal.language import _
from portal.permissions import Permission

if TYPE_CHECKING:  # a page never touches a table; it may name the type of what a query gave it
    from domain.store.tables import Ticket

router = page_router()

LANES: tuple[tuple[str, str, str, tuple[State, ...]], ...] = (
    (_("Intake"), "inbox", "attention", (State.REPORTED, State.GUIDED, State.AWAITING_CONSENT)),
    (_("To dispatch"), "route", "warn", (State.READY,)),
    (_("Under way"), "car", "active", (State.DISPATCHED, State.ACCEPTED, State.ON_THE_WAY)),
    (_("In repair"), "tool", "active", (State.REPAIRING, State.WAITING_PARTS)),
    (_("Test run"), "activity", "testing", (State.TESTING,)),
    (_("To close"), "check", "good", (State.VERIFIED,)),
)
"""Title, icon, tone, states; together they are every open state (a test says so)."""

DONE_WITHIN = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Card:
    """One ticket on the board."""

    id: int
    state: str
    severity: int
    kind: str
    family: str
    words: str
    machine: str
    type: str
    serial: str
    site: str
    region: str
    assignee: str
    assignee_id: int | None
    occurrences: int
    rework: bool
    deadline: DeadlineView


@dataclass(frozen=True, slots=True)
class Lane:
    """One column; ``mixed`` where its cards are in several states, so that each says its own."""

    title: str
    icon: str
    tone: str
    mixed: bool
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Filters:
    """What the reader narrowed the board to; '' means everything."""

    q: str = ""
    region: str = ""
    technician: str = ""
    late: str = ""

    def fit(self, card: Card) -> bool:
        """Whether a card stays (the text is searched by the query already)."""
        late = card.deadline.clock in (Clock.WARNING, Clock.BREACHED)
        return (not self.technician or str(card.assignee_id) == self.technician) and (not self.late or late)


@dataclass(frozen=True, slots=True)
class BoardView:
    """The whole board."""

    lanes: tuple[Lane, ...]
    filters: Filters
    address: str
    regions: tuple[str, ...]
    technicians: tuple[tuple[str, str], ...]
    open: int
    warning: int
    breached: int
    testing: int
    done: int


@router.get("/board")
def board(
    page: Annotated[Page, require(Permission.SEE_ALL_TICKETS)],
    q: str = "",
    region: str = "",
    technician: str = "",
    late: str = "",
) -> Response:
    """The board, narrowed by the address's parameters."""
    filters = Filters(q.strip(), region, technician, late)
    with page.read() as session:
        cards = [card_of(ticket, page.now) for ticket in tickets.open_tickets(session, region=region, text=filters.q)]
        done = len(tickets.recently_ended(session, page.now - DONE_WITHIN, limit=1000))
        regions = sorted({site.region for site in registry.sites(session) if site.region})
        people = [(str(p.id), p.name) for p in registry.people(session, role=Role.TECHNICIAN, active_only=True)]
    shown = [card for card in cards if filters.fit(card)]
    view = BoardView(
        lanes=lanes_of(shown),
        filters=filters,
        address=str(page.request.url.replace(scheme="", netloc="")),
        regions=tuple(regions),
        technicians=tuple(people),
        open=len(shown),
        warning=sum(card.deadline.clock is Clock.WARNING for card in shown),
        breached=sum(card.deadline.clock is Clock.BREACHED for card in shown),
        testing=sum(card.state == State.TESTING for card in shown),
        done=done,
    )
    return page.show("board.html", view)


def card_of(ticket: Ticket, now: datetime) -> Card:
    """What the board shows of a ticket."""
    machine, site, assignee = ticket.equipment, ticket.site, ticket.assignee
    return Card(
        id=ticket.id,
        state=ticket.state,
        severity=ticket.severity,
        kind=ticket.kind,
        family=ticket.family,
        words=ticket.customer_words,
        machine=machine.name if machine else "",
        type=machine.type if machine else "",
        serial=ticket.serial or "",
        site=site.name if site else "",
        region=site.region if site else "",
        assignee=assignee.name if assignee else "",
        assignee_id=ticket.assignee_id,
        occurrences=ticket.occurrences,
        rework=ticket.rework_of_id is not None,
        deadline=deadlines.view(ticket.due_at, paused_at=ticket.paused_at, ended_at=ticket.ended_at, now=now),
    )


def lanes_of(cards: Sequence[Card]) -> tuple[Lane, ...]:
    """Cards by column, in the order given."""
    return tuple(
        Lane(title, icon, tone, len(states) > 1, tuple(card for card in cards if card.state in states))
        for title, icon, tone, states in LANES
    )
