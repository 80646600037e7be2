"""``/dispatch``: who goes where. Tickets to assign with ranked technicians, jobs that nobody has accepted, work under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from fastapi.responses import Response

from domain.desk.dispatch import propose
from domain.errors import NotFoundError, RefusedError
from domain.store.queries import registry, service
from domain.store.queries import tickets as query
from domain.tickets.assignment import Proposal
from domain.tickets.deadlines import ACCEPT_WITHIN, Clock
from domain.tickets.states import ACTIONS, AT_THE_MACHINE, Action, Role, State
from portal.actions import DONE, Refused, refused, take
from portal.deps import FormValues, Page, page_router, require
from portal.errors import status_of
from portal.labels import ROLE
from portal.language import Message, _
from portal.permissions import Permission
from portal.render import Form, Notice
from portal.ticket_view import TicketHead, head_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from domain.store.tables import Journal, Person, Ticket

router = page_router()
Dispatcher = Annotated[Page, require(Permission.DISPATCH)]

SECTIONS: tuple[tuple[str, str, tuple[State, ...]], ...] = (
    ("ready", _("To assign"), (State.READY,)),
    ("unaccepted", _("Waiting to be accepted"), (State.DISPATCHED,)),
    (
        "under_way",
        _("Accepted and in work"),
        (State.ACCEPTED, State.ON_THE_WAY, State.REPAIRING, State.TESTING, State.VERIFIED),
    ),
    ("stopped", _("Clock stopped"), (State.WAITING_PARTS, State.AWAITING_CONSENT)),
)
"""Key, title and states of each section, in the order in which a dispatcher looks."""
SORTS: Mapping[str, tuple[str, Callable[[TicketHead], tuple[Any, ...]]]] = {
    "deadline": (_("Deadline"), lambda head: (head.deadline.due_at, head.id)),
    "severity": (_("Severity"), lambda head: (head.severity, head.deadline.due_at)),
    "region": (_("Region"), lambda head: (head.region, head.deadline.due_at)),
    "opened": (_("Longest open"), lambda head: (head.opened_at, head.id)),
}
COME_BACK: Mapping[Action, str] = {
    Action.DECLINE: _("{name} declined: {reason}"),
    Action.EXPIRE: _("{name} did not accept in time"),
}
"""Why a ticket is here again."""
HANDING_OVER = (Action.ASSIGN, Action.REASSIGN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One ticket: ``offered`` is the handing over that the reader may do (``''`` for none), ``proposals`` who could go, best
    first; why it came back, and how long it has been waiting to be accepted.
    """

    head: TicketHead
    offered: str
    proposals: tuple[Proposal, ...]
    form: Form
    open: bool
    came_back: Message | None
    waiting: timedelta | None
    accept_left: timedelta | None


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one kind."""

    key: str
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """A technician and their load."""

    id: int
    name: str
    region: str
    skills: tuple[str, ...]
    open: int
    unaccepted: int
    at_machine: int


@dataclass(frozen=True, slots=True)
class Filters:
    """What the reader narrowed the list to; '' means everything."""

    q: str = ""
    region: str = ""
    type: str = ""
    technician: str = ""
    late: str = ""
    sort: str = "deadline"

    def fit(self, head: TicketHead) -> bool:
        """Whether a ticket stays (text and region are the query's)."""
        late = head.deadline.clock in (Clock.WARNING, Clock.BREACHED)
        return (
            (not self.type or head.type == self.type)
            and (not self.technician or str(head.assignee_id) == self.technician)
            and (not self.late or late)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchView:
    """The whole page; ``reserved_to``: who may hand tickets over, where the reader may not."""

    sections: tuple[Section, ...]
    hands: tuple[Hand, ...]
    filters: Filters
    sorts: tuple[tuple[str, str], ...]
    regions: tuple[str, ...]
    address: str
    late: int
    reserved_to: tuple[str, ...]


@router.get("/dispatch")
def index(
    page: Dispatcher,
    q: str = "",
    region: str = "",
    type: str = "",
    technician: str = "",
    late: str = "",
    sort: str = "deadline",
) -> Response:
    """The list, narrowed and sorted by the address's parameters."""
    filters = Filters(q.strip(), region, type, technician, late, sort if sort in SORTS else "deadline")
    with page.read() as session:
        view = _view(page, session, filters)
    return page.show("dispatch/index.html", view)


@router.post("/dispatch/{ticket_id}/{action}")
def act(page: Dispatcher, ticket_id: int, action: Action, typed: FormValues) -> Response:
    """Assign or reassign from the list; the list comes back as it was narrowed."""
    back = typed.get("next", "")
    back = back if back.startswith("/dispatch") else "/dispatch"
    try:
        with page.command() as session:
            ticket = page.ticket(session, ticket_id)
            take(session, page.actor, ticket, action, typed, page.now, page.with_zone)
            done = Message(_("#{number} goes to {name}"), number=ticket_id, name=_name(session, ticket_id))
    except NotFoundError:
        raise
    except RefusedError as error:
        back_again = refused(action, error, typed)
        with page.read() as session:
            view = _view(page, session, Filters(), sent_back=(ticket_id, back_again))
        return page.show("dispatch/index.html", view, status=status_of(error), notice=Notice(Message.of(error), "bad"))
    return page.go(back, done if action in (Action.ASSIGN, Action.REASSIGN) else Message(DONE[action]))


def _name(session: Session, ticket_id: int) -> str:
    assignee = query.ticket(session, ticket_id).assignee
    return assignee.name if assignee else ""


def _view(page: Page, session: Session, filters: Filters, sent_back: tuple[int, Refused] | None = None) -> DispatchView:
    found = query.open_tickets(session, region=filters.region, text=filters.q)
    heads = {ticket.id: head_of(ticket, page.now, page.locale) for ticket in found}
    shown = [ticket for ticket in found if filters.fit(heads[ticket.id])]
    back = service.last_reasons(
        session, [t.id for t in shown if t.state == State.READY], [action.value for action in COME_BACK]
    )
    rows = [_row(page, session, ticket, heads[ticket.id], back.get(ticket.id), sent_back) for ticket in shown]
    rows.sort(key=lambda row: SORTS[filters.sort][1](row.head))
    return DispatchView(
        sections=tuple(
            Section(key, title, tuple(row for row in rows if row.head.state in states))
            for key, title, states in SECTIONS
        ),
        hands=_hands(registry.people(session, role=Role.TECHNICIAN, active_only=True), query.open_tickets(session)),
        filters=filters,
        sorts=tuple((key, title) for key, (title, _order) in SORTS.items()),
        regions=tuple(sorted({site.region for site in registry.sites(session) if site.region})),
        address=str(page.request.url.replace(scheme="", netloc="")) if page.request.method == "GET" else "/dispatch",
        reserved_to=_reserved_to(page),
        late=sum(head.deadline.clock in (Clock.WARNING, Clock.BREACHED) for head in heads.values()),
    )


def _row(
    page: Page,
    session: Session,
    ticket: Ticket,
    head: TicketHead,
    back: Journal | None,
    sent_back: tuple[int, Refused] | None,
) -> Row:
    offered = next((action for action in HANDING_OVER if _may(page, ticket, action)), None)
    waiting = page.now - ticket.dispatched_at if ticket.state == State.DISPATCHED and ticket.dispatched_at else None
    mine = sent_back[1] if sent_back and sent_back[0] == ticket.id else None
    return Row(
        head=head,
        offered=offered.value if offered else "",
        proposals=tuple(propose(session, ticket)) if offered else (),
        form=mine.form if mine else Form.blank(),
        open=mine is not None,
        came_back=Message(COME_BACK[Action(back.action)], name=_who(back), reason=back.reason) if back else None,
        waiting=waiting,
        accept_left=ACCEPT_WITHIN - waiting if waiting is not None else None,
    )


def _may(page: Page, ticket: Ticket, action: Action) -> bool:
    rule = ACTIONS[action]
    return State(ticket.state) in rule.moves and bool(page.actor.roles & rule.roles)


def _reserved_to(page: Page) -> tuple[str, ...]:
    # Names of the people's roles that hand tickets over, for a reader who has none of them.
    handing = frozenset[Role]().union(*(ACTIONS[action].roles for action in HANDING_OVER))
    if page.actor.roles & handing:
        return ()
    return tuple(ROLE[role.value].text for role in Role if role in handing and role is not Role.SYSTEM)


def _who(back: Journal) -> str:
    return str(back.detail.get("assignee") or back.actor_name)


def _hands(people: Sequence[Person], open_tickets: Sequence[Ticket]) -> tuple[Hand, ...]:
    hands = []
    for person in people:
        states = [State(ticket.state) for ticket in open_tickets if ticket.assignee_id == person.id]
        hands.append(
            Hand(
                id=person.id,
                name=person.name,
                region=person.region,
                skills=tuple(person.skills),
                open=len(states),
                unaccepted=states.count(State.DISPATCHED),
                at_machine=sum(state in AT_THE_MACHINE for state in states),
            )
        )
    return tuple(sorted(hands, key=lambda hand: (hand.open, hand.name)))
