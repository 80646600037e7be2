"""Searching what people look up: machines, customers, quarantine. Text is taken literally: '%' and '_' find themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, case, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload
from sqlalchemy.orm.interfaces import ORMOption

from domain.store.queries.tickets import ENDED
from domain.store.tables import Customer, Equipment, EquipmentStatus, FindingRow, Person, QuarantineRow, Site, Ticket
from domain.tickets.states import Role

PAGE_SIZE = 50
LONGEST = 100
"""Characters of a search text that count."""
PHONE_DIGITS = 4
"""From so many digits on a search text may be part of a phone number."""
CONDITIONS = ("online", "silent", "never", "finding", "ticket")
"""What a machine may be filtered by."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """One page of what was found, and how many there are in all. Pages count from 1."""

    rows: tuple[T, ...]
    total: int
    page: int

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // PAGE_SIZE))


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine with what it last said, its uncleared findings and open tickets (counts)."""

    machine: Equipment
    status: EquipmentStatus | None
    findings: int
    tickets: int


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """A customer with the number of sites and machines."""

    customer: Customer
    sites: int
    machines: int


def plain(text: str) -> str:
    """A search text without what no database can store or nobody can see, cut to ``LONGEST``."""
    return "".join(c for c in text if c.isprintable())[:LONGEST].strip()


def machines(
    session: Session,
    *,
    text: str = "",
    equipment_type: str = "",
    condition: str = "",
    region: str = "",
    page: int = 1,
) -> Found[MachineRow]:
    """Machines by serial; ``text`` is searched in serial, name, model and site, ``condition`` is one of ``CONDITIONS``."""
    query = _machines()
    if equipment_type:
        query = query.where(Equipment.type == equipment_type)
    if region:
        query = query.where(Site.region == region)
    if condition in CONDITIONS:
        query = query.where(_CONDITIONS[condition])
    if wanted := plain(text):
        query = query.where(_contains(wanted, Equipment.serial, Equipment.name, Equipment.model, Site.name))
    whole = joinedload(Equipment.site).joinedload(Site.customer)
    return _rows(session, *_page(session, query, page, Equipment.serial, whole))


def for_call(session: Session, text: str, limit: int = 12) -> list[MachineRow]:
    """Machines that a caller may mean: by serial, phone number, machine, site, address or customer; the exact serial first."""
    wanted = plain(text)
    if not wanted:
        return []
    given = _contains(
        wanted, Equipment.serial, Equipment.name, Site.name, Site.address, Customer.name, Customer.contact
    )
    if digits := phone_digits(wanted):
        given = or_(given, _digits(Customer.phone).contains(digits))
    query = (
        _machines()
        .join(Customer, Site.customer_id == Customer.id)
        .where(given)
        .options(joinedload(Equipment.site).joinedload(Site.customer))
        .order_by(case((func.lower(Equipment.serial) == wanted.lower(), 0), else_=1), Site.name, Equipment.serial)
        .limit(limit)
    )
    return list(_rows(session, session.scalars(query).all(), 0, 1).rows)


def machine_row(session: Session, machine: Equipment) -> MachineRow:
    """One machine that was read already, with what belongs to its row."""
    return _rows(session, [machine], 1, 1).rows[0]


def machine_counts(session: Session) -> dict[str, int]:
    """How many machines there are (``''``), and in each condition."""
    columns = [func.count().filter(condition) for condition in _CONDITIONS.values()]
    counted = session.execute(
        select(func.count(), *columns).select_from(Equipment).outerjoin(
            EquipmentStatus, EquipmentStatus.serial == Equipment.serial
        )
    ).one()  # fmt: skip
    return dict(zip(("", *_CONDITIONS), counted, strict=True))


def regions(session: Session) -> list[str]:
    """Every region that a site has."""
    return list(session.scalars(select(Site.region).where(Site.region != "").distinct().order_by(Site.region)))


def machines_of_sites(session: Session, site_ids: Sequence[int]) -> dict[int, list[MachineRow]]:
    """The machines of these sites, by site."""
    query = _machines().where(Equipment.site_id.in_(list(site_ids))).order_by(Equipment.serial)
    found: dict[int, list[MachineRow]] = {}
    for row in _rows(session, session.scalars(query.options(joinedload(Equipment.site))).all(), 0, 1).rows:
        found.setdefault(row.machine.site_id, []).append(row)
    return found


def customers(session: Session, *, text: str = "", page: int = 1) -> Found[CustomerRow]:
    """Customers by name; ``text`` is searched in name, contact, phone number, and the names of their sites."""
    query = select(Customer)
    if wanted := plain(text):
        at_site = exists().where(Site.customer_id == Customer.id, _contains(wanted, Site.name, Site.address))
        given = or_(_contains(wanted, Customer.name, Customer.contact), at_site)
        if digits := phone_digits(wanted):
            given = or_(given, _digits(Customer.phone).contains(digits))
        query = query.where(given)
    found, total, page = _page(session, query, page, Customer.name)
    ids = [customer.id for customer in found]
    per_customer = (
        select(Site.customer_id, func.count(Site.id.distinct()), func.count(Equipment.id))
        .outerjoin(Equipment, Equipment.site_id == Site.id)
        .where(Site.customer_id.in_(ids))
        .group_by(Site.customer_id)
    )
    counts = {owner: (sites, machines) for owner, sites, machines in session.execute(per_customer)}
    rows = tuple(CustomerRow(customer, *counts.get(customer.id, (0, 0))) for customer in found)
    return Found(rows, total, page)


def quarantine(
    session: Session, *, state: str, reason: str = "", text: str = "", page: int = 1
) -> Found[QuarantineRow]:
    """Quarantined payloads, the latest first; ``text`` is searched in topic and serial."""
    query = select(QuarantineRow).where(QuarantineRow.state == state)
    if reason:
        query = query.where(QuarantineRow.reason == reason)
    if wanted := plain(text):
        query = query.where(_contains(wanted, QuarantineRow.topic, QuarantineRow.serial))
    found, total, page = _page(session, query, page, QuarantineRow.id.desc())
    return Found(tuple(found), total, page)


def quarantined(session: Session, row_id: int) -> QuarantineRow | None:
    """One quarantined payload."""
    return session.get(QuarantineRow, row_id)


def phone_digits(text: str) -> str:
    """The digits of a text that looks like (a part of) a phone number, else ''."""
    digits = "".join(c for c in text if c in "0123456789")
    return digits[-11:] if len(digits) >= PHONE_DIGITS and not text.strip("0123456789+- ()") else ""


def _machines() -> Select[Equipment]:
    return (
        select(Equipment)
        .join(Site, Equipment.site_id == Site.id)
        .outerjoin(EquipmentStatus, EquipmentStatus.serial == Equipment.serial)
    )


_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "online": EquipmentStatus.online.is_(True),
    "silent": EquipmentStatus.online.is_(False),
    "never": EquipmentStatus.last_seen_at.is_(None),
    "finding": exists().where(FindingRow.serial == Equipment.serial, FindingRow.cleared_at_ms.is_(None)),
    "ticket": exists().where(Ticket.serial == Equipment.serial, Ticket.state.not_in(ENDED)),
}


def _contains(
    text: str, *columns: InstrumentedAttribute[str] | InstrumentedAttribute[str | None]
) -> ColumnElement[bool]:
    return or_(*(column.icontains(text, autoescape=True) for column in columns))


def _digits(column: InstrumentedAttribute[str]) -> ColumnElement[str]:
    cleaned: ColumnElement[str] = func.replace(column, "-", "")
    for sign in (" ", "+", "(", ")"):
        cleaned = func.replace(cleaned, sign, "")
    return cleaned


def _page(
    session: Session, query: Select[T], page: int, order: Any, *options: ORMOption
) -> tuple[Sequence[T], int, int]:
    """The rows of a page, the total, and the page that it is: the last one where there are fewer."""
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    page = min(max(1, page), max(1, -(-total // PAGE_SIZE)))
    wanted = query.options(*options).order_by(order).offset((page - 1) * PAGE_SIZE).limit(PAGE_SIZE)
    return session.scalars(wanted).all(), total, page


def _rows(session: Session, found: Sequence[Equipment], total: int, page: int) -> Found[MachineRow]:
    serials = [machine.serial for machine in found]
    statuses = {
        row.serial: row for row in session.scalars(select(EquipmentStatus).where(EquipmentStatus.serial.in_(serials)))
    }
    findings = _counts(
        session,
        select(FindingRow.serial, func.count()).where(
            FindingRow.serial.in_(serials), FindingRow.cleared_at_ms.is_(None)
        ).group_by(FindingRow.serial),
    )  # fmt: skip
    tickets = _counts(
        session,
        select(Ticket.serial, func.count()).where(
            Ticket.serial.in_(serials), Ticket.state.not_in(ENDED)
        ).group_by(Ticket.serial),
    )  # fmt: skip
    rows = tuple(
        MachineRow(
            machine, statuses.get(machine.serial), findings.get(machine.serial, 0), tickets.get(machine.serial, 0)
        )
        for machine in found
    )
    return Found(rows, total, page)


def _counts(session: Session, query: Select[Any, Any]) -> dict[str, int]:
    return {str(serial): int(count) for serial, count in session.execute(query)}


def dealers(session: Session) -> list[Person]:
    """Everybody who is a dealer, by name."""
    people = session.scalars(select(Person).where(Person.active).order_by(Person.name, Person.id))
    return [person for person in people if Role.DEALER in person.roles]


def customers_of_dealer(session: Session, person_id: int) -> list[Customer]:
    """The customers that this dealer looks after, by name."""
    return list(
        session.scalars(select(Customer).where(Customer.dealer_id == person_id).order_by(Customer.name, Customer.id))
    )


def tickets_of_dealer(session: Session, person_id: int, since: datetime) -> list[Ticket]:
    """Tickets of this dealer's customers that are open or ended after ``since``, the latest first; with site and machine."""
    query = (
        select(Ticket)
        .join(Customer, Customer.id == Ticket.customer_id)
        .where(Customer.dealer_id == person_id, or_(Ticket.ended_at.is_(None), Ticket.ended_at >= since))
        .options(joinedload(Ticket.site), joinedload(Ticket.equipment))
        .order_by(Ticket.id.desc())
    )
    return list(session.scalars(query))
