"""Reading for the service pages: what shades a chart, who pressed last, a day's finished jobs, one notice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, joinedload

from domain.store.queries.tickets import ENDED, NOT_WAITING
from domain.store.tables import FindingRow, Journal, Notice, Person, TestRun, Ticket


def findings_between(session: Session, serial: str, start_ms: int, end_ms: int) -> list[FindingRow]:
    """Episodes of a machine that touch the range ``[start_ms, end_ms)``, oldest first."""
    return list(
        session.scalars(
            select(FindingRow)
            .where(
                FindingRow.serial == serial,
                FindingRow.raised_at_ms < end_ms,
                or_(FindingRow.cleared_at_ms.is_(None), FindingRow.cleared_at_ms >= start_ms),
            )
            .order_by(FindingRow.raised_at_ms)
        )
    )


def runs_between(session: Session, serial: str, start: datetime, end: datetime) -> list[TestRun]:
    """Test runs of a machine that touch the range, oldest first; one that was never decided lasts until now."""
    return list(
        session.scalars(
            select(TestRun)
            .where(
                TestRun.serial == serial,
                NOT_WAITING,
                TestRun.started_at < end,
                or_(TestRun.decided_at.is_(None), TestRun.decided_at >= start),
            )
            .order_by(TestRun.started_at)
        )
    )


def last_by_a_person(session: Session, ticket_id: int) -> Journal | None:
    """The newest journal row of a ticket that a person (not brewair itself) caused."""
    return session.scalar(
        select(Journal)
        .where(Journal.ticket_id == ticket_id, Journal.actor_id.is_not(None))
        .order_by(Journal.id.desc())
        .limit(1)
    )


def last_reasons(session: Session, ticket_ids: Sequence[int], actions: Sequence[str]) -> dict[int, Journal]:
    """For each of these tickets the newest journal row of one of ``actions``."""
    newest = (
        select(func.max(Journal.id))
        .where(Journal.ticket_id.in_(list(ticket_ids)), Journal.action.in_(list(actions)))
        .group_by(Journal.ticket_id)
    )
    rows = session.scalars(select(Journal).where(Journal.id.in_(newest)))
    return {row.ticket_id: row for row in rows if row.ticket_id is not None}


def ended_of_person(session: Session, person_id: int, since: datetime) -> list[Ticket]:
    """Tickets of a technician that ended after ``since``, the latest first."""
    return list(
        session.scalars(
            select(Ticket)
            .where(Ticket.assignee_id == person_id, Ticket.state.in_(ENDED), Ticket.ended_at >= since)
            .options(joinedload(Ticket.equipment), joinedload(Ticket.site))
            .order_by(Ticket.ended_at.desc())
        )
    )


def notice(session: Session, notice_id: int, *, person_id: int, roles: Sequence[str]) -> Notice | None:
    """One notice, if it is for this person or one of their roles."""
    return session.scalar(
        select(Notice).where(Notice.id == notice_id, or_(Notice.person_id == person_id, Notice.role.in_(list(roles))))
    )


def person_names(session: Session, person_ids: Sequence[int]) -> dict[int, str]:
    """Names of people by id."""
    rows = session.execute(select(Person.id, Person.name).where(Person.id.in_(list(person_ids))))
    return {int(person_id): str(name) for person_id, name in rows}
