"""``/dealer``: what a regional partner may read: its own customers, their sites, machines and tickets; nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from fastapi.responses import Response

from domain.store.queries import registry, search
from portal.deps import Page, page_router, require
from portal.equipment_view import MachineLine, line_of
from portal.labels import Label, subject
from portal.language import masked_phone
from portal.permissions import Permission

router = page_router()
ENDED_WITHIN = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class SiteLine:
    """One site with its machines."""

    name: str
    address: str
    region: str
    machines: tuple[MachineLine, ...]


@dataclass(frozen=True, slots=True)
class TicketLine:
    """One ticket as outsiders see it: ``state`` is the key of its public status."""

    id: int
    about: Label
    state: str
    serial: str
    site: str
    opened_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class CustomerCard:
    """One customer; the telephone number is masked."""

    name: str
    contact: str
    phone: str
    sites: tuple[SiteLine, ...]
    tickets: tuple[TicketLine, ...]


@dataclass(frozen=True, slots=True)
class DealerView:
    """All customers of the dealer who reads."""

    customers: tuple[CustomerCard, ...]


@router.get("/dealer")
def index(page: Annotated[Page, require(Permission.SEE_OWN_CUSTOMERS)]) -> Response:
    """The reader's own customers."""
    with page.read() as session:
        tickets = search.tickets_of_dealer(session, page.user.id, page.now - ENDED_WITHIN)
        cards = []
        for customer in search.customers_of_dealer(session, page.user.id):
            sites = registry.sites(session, customer_id=customer.id)
            machines = search.machines_of_sites(session, [site.id for site in sites])
            cards.append(
                CustomerCard(
                    name=customer.name,
                    contact=customer.contact,
                    phone=masked_phone(customer.phone),
                    sites=tuple(
                        SiteLine(
                            site.name, site.address, site.region,
                            tuple(line_of(row, page.user) for row in machines.get(site.id, ())),
                        )
                        for site in sites
                    ),
                    tickets=tuple(
                        TicketLine(
                            ticket.id, subject(ticket), ticket.state, ticket.serial or "",
                            ticket.site.name if ticket.site else "", ticket.opened_at, ticket.ended_at,
                        )
                        for ticket in tickets
                        if ticket.customer_id == customer.id
                    ),
                )
            )  # fmt: skip
    return page.show("dealer/index.html", DealerView(tuple(cards)))
