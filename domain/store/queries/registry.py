"""Reading customers, sites, equipment and people."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, joinedload

from domain.errors import NotFoundError
from domain.store.queries.tickets import OPEN
from domain.store.tables import Customer, Equipment, EquipmentStatus, Person, Repair, Site, Ticket


def machine(session: Session, serial: str) -> Equipment:
    """One machine with site and customer; raises NotFoundError."""
    found = session.scalar(
        select(Equipment)
        .where(Equipment.serial == serial)
        .options(joinedload(Equipment.site).joinedload(Site.customer))
    )
    if found is None:
        raise NotFoundError("There is no machine {serial}", serial=serial)
    return found


def machine_or_none(session: Session, serial: str) -> Equipment | None:
    """One machine, None where there is none."""
    return session.scalar(select(Equipment).where(Equipment.serial == serial))


def machine_of_topic(session: Session, topic: str) -> Equipment | None:
    """The machine that is bound to a foreign topic."""
    return session.scalar(select(Equipment).where(Equipment.binding_topic == topic))


def customers_named(session: Session, name: str) -> list[Customer]:
    """The customers of exactly this name."""
    return list(session.scalars(select(Customer).where(Customer.name == name).order_by(Customer.id)))


def site_by_name(session: Session, customer_id: int, name: str) -> Site | None:
    """The site of this name that a customer has."""
    return session.scalar(select(Site).where(Site.customer_id == customer_id, Site.name == name).limit(1))


def machines(
    session: Session, *, text: str = "", equipment_type: str = "", site_id: int | None = None, limit: int = 500
) -> list[Equipment]:
    """Machines with site and customer by serial; ``text`` is searched in serial, name, model, site."""
    query = (
        select(Equipment)
        .join(Site)
        .options(joinedload(Equipment.site).joinedload(Site.customer))
        .order_by(Equipment.serial)
        .limit(limit)
    )
    if equipment_type:
        query = query.where(Equipment.type == equipment_type)
    if site_id is not None:
        query = query.where(Equipment.site_id == site_id)
    if text:
        pattern = f"%{text}%"
        query = query.where(
            or_(
                Equipment.serial.ilike(pattern),
                Equipment.name.ilike(pattern),
                Equipment.model.ilike(pattern),
                Site.name.ilike(pattern),
            )
        )
    return list(session.scalars(query))


def machines_by_phone(session: Session, phone: str) -> list[Equipment]:
    """Machines of customers with this phone number (digits compared)."""
    digits = "".join(c for c in phone if c.isdigit())
    if len(digits) < 7:
        return []
    return list(
        session.scalars(
            select(Equipment)
            .join(Site)
            .join(Customer)
            .where(Customer.phone.like(f"%{digits[-11:]}"))
            .options(joinedload(Equipment.site).joinedload(Site.customer))
            .order_by(Equipment.serial)
        )
    )


def status(session: Session, serial: str) -> EquipmentStatus | None:
    """What the machine last said."""
    return session.get(EquipmentStatus, serial)


def statuses(session: Session, serials: Sequence[str]) -> dict[str, EquipmentStatus]:
    """What these machines last said, by serial."""
    rows = session.scalars(select(EquipmentStatus).where(EquipmentStatus.serial.in_(list(serials))))
    return {row.serial: row for row in rows}


def site(session: Session, site_id: int) -> Site:
    """One site with its customer; raises NotFoundError."""
    found = session.scalar(select(Site).where(Site.id == site_id).options(joinedload(Site.customer)))
    if found is None:
        raise NotFoundError("There is no site {id}", id=site_id)
    return found


def sites(session: Session, *, text: str = "", customer_id: int | None = None, limit: int = 500) -> list[Site]:
    """Sites with their customer, by name."""
    query = select(Site).options(joinedload(Site.customer)).order_by(Site.name).limit(limit)
    if customer_id is not None:
        query = query.where(Site.customer_id == customer_id)
    if text:
        query = query.where(or_(Site.name.ilike(f"%{text}%"), Site.address.ilike(f"%{text}%")))
    return list(session.scalars(query))


def customer(session: Session, customer_id: int) -> Customer:
    """One customer; raises NotFoundError."""
    found = session.get(Customer, customer_id)
    if found is None:
        raise NotFoundError("There is no customer {id}", id=customer_id)
    return found


def customers(session: Session, *, text: str = "", limit: int = 500) -> list[Customer]:
    """Customers by name."""
    query = select(Customer).order_by(Customer.name).limit(limit)
    if text:
        query = query.where(or_(Customer.name.ilike(f"%{text}%"), Customer.contact.ilike(f"%{text}%")))
    return list(session.scalars(query))


def person(session: Session, person_id: int) -> Person:
    """One person; raises NotFoundError."""
    found = session.get(Person, person_id)
    if found is None:
        raise NotFoundError("There is no person {id}", id=person_id)
    return found


def person_by_login(session: Session, login: str) -> Person | None:
    """The person with this log-in name."""
    return session.scalar(select(Person).where(Person.login == login))


def people(session: Session, *, role: str = "", active_only: bool = False) -> list[Person]:
    """People by name; with ``role`` only those who have it."""
    query = select(Person).order_by(Person.name)
    if active_only:
        query = query.where(Person.active)
    return [found for found in session.scalars(query) if not role or role in found.roles]


def open_ticket_counts(session: Session) -> dict[int, int]:
    """Open tickets by assignee id."""
    rows = session.execute(
        select(Ticket.assignee_id, func.count())
        .where(Ticket.state.in_(OPEN), Ticket.assignee_id.is_not(None))
        .group_by(Ticket.assignee_id)
    )
    return {person_id: count for person_id, count in rows if person_id is not None}


def visit_counts(session: Session, *, serial: str | None, site_id: int | None) -> tuple[dict[int, int], dict[int, int]]:
    """Repairs by person at this machine, and at this site."""
    base = select(Repair.person_id, func.count()).join(Ticket, Ticket.id == Repair.ticket_id).group_by(Repair.person_id)
    machine_rows = session.execute(base.where(Ticket.serial == serial)) if serial else ()
    site_rows = session.execute(base.where(Ticket.site_id == site_id)) if site_id else ()
    return (
        {person_id: count for person_id, count in machine_rows if person_id is not None},
        {person_id: count for person_id, count in site_rows if person_id is not None},
    )
