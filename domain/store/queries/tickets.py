"""Reading tickets, their journal, findings, runs and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, joinedload

from domain.errors import NotFoundError
from domain.store.tables import (
    Equipment,
    FindingRow,
    Journal,
    Notice,
    Repair,
    Site,
    TestRun,
    Ticket,
    VerdictRow,
)
from domain.tickets.states import AT_THE_MACHINE, STATES, TERMINAL, Deadline, State

ENDED = tuple(state.value for state in TERMINAL)


def _whole(query: Select[Ticket]) -> Select[Ticket]:
    return query.options(
        joinedload(Ticket.equipment), joinedload(Ticket.site), joinedload(Ticket.customer), joinedload(Ticket.assignee)
    )


def ticket(session: Session, ticket_id: int) -> Ticket:
    """One ticket with machine, site, customer and assignee; raises NotFoundError."""
    found = session.scalar(_whole(select(Ticket)).where(Ticket.id == ticket_id))
    if found is None:
        raise NotFoundError("There is no ticket {id}", id=ticket_id)
    return found


def open_tickets(
    session: Session,
    *,
    assignee_id: int | None = None,
    states: Sequence[State] = (),
    region: str = "",
    text: str = "",
    limit: int = 500,
) -> list[Ticket]:
    """Open tickets, the nearest deadline first; ``text`` is searched in serial, site and customer words."""
    query = _whole(select(Ticket)).where(Ticket.state.not_in(ENDED)).order_by(Ticket.due_at, Ticket.id).limit(limit)
    if assignee_id is not None:
        query = query.where(Ticket.assignee_id == assignee_id)
    if states:
        query = query.where(Ticket.state.in_([state.value for state in states]))
    if region or text:
        query = query.outerjoin(Site, Ticket.site_id == Site.id)
    if region:
        query = query.where(Site.region == region)
    if text:
        pattern = f"%{text}%"
        query = query.where(
            or_(Ticket.serial.ilike(pattern), Site.name.ilike(pattern), Ticket.customer_words.ilike(pattern))
        )
    return list(session.scalars(query))


def recently_ended(session: Session, since: datetime, limit: int = 50) -> list[Ticket]:
    """Tickets that ended after ``since``, the latest first."""
    query = _whole(select(Ticket)).where(Ticket.ended_at >= since).order_by(Ticket.ended_at.desc()).limit(limit)
    return list(session.scalars(query))


def tickets_of_machine(session: Session, serial: str, limit: int = 100) -> list[Ticket]:
    """All tickets of one machine, the latest first."""
    return list(
        session.scalars(_whole(select(Ticket)).where(Ticket.serial == serial).order_by(Ticket.id.desc()).limit(limit))
    )


def open_of_family(session: Session, serial: str, family: str) -> Ticket | None:
    """The one open ticket of a machine and fault family."""
    return session.scalar(
        select(Ticket).where(Ticket.serial == serial, Ticket.family == family, Ticket.state.not_in(ENDED))
    )


def at_the_machine(session: Session, serial: str) -> Ticket | None:
    """The ticket in whose visit the machine is right now: findings of any family belong to it."""
    return session.scalar(
        select(Ticket)
        .where(Ticket.serial == serial, Ticket.state.in_([state.value for state in AT_THE_MACHINE]))
        .order_by(Ticket.id)
        .limit(1)
    )


def last_ended_of_family(session: Session, serial: str, family: str, since: datetime) -> Ticket | None:
    """The latest ticket of machine and family that was closed or solved after ``since``."""
    return session.scalar(
        select(Ticket)
        .where(
            Ticket.serial == serial,
            Ticket.family == family,
            Ticket.state.in_((State.CLOSED.value, State.SOLVED_BY_PHONE.value)),
            Ticket.ended_at >= since,
        )
        .order_by(Ticket.ended_at.desc())
        .limit(1)
    )


def repair_visits(session: Session, serial: str, since: datetime) -> int:
    """How many closed repair tickets the machine had after ``since``."""
    return session.scalar(
        select(func.count()).select_from(Ticket).where(
            Ticket.serial == serial, Ticket.state == State.CLOSED.value, Ticket.ended_at >= since
        )
    ) or 0  # fmt: skip


def with_running_deadline(session: Session, due_before: datetime) -> list[Ticket]:
    """Open tickets whose clock runs and ends before ``due_before`` and of which somebody has not been told yet."""
    running = [state.value for state, facts in STATES.items() if facts.deadline is Deadline.RUNS]
    return list(
        session.scalars(
            select(Ticket).where(Ticket.state.in_(running), Ticket.due_at <= due_before, Ticket.escalated_at.is_(None))
        )
    )


def dispatched_before(session: Session, moment: datetime) -> list[Ticket]:
    """Tickets that were assigned before ``moment`` and not accepted."""
    return list(
        session.scalars(select(Ticket).where(Ticket.state == State.DISPATCHED.value, Ticket.dispatched_at <= moment))
    )


def to_rearm(session: Session, now: datetime) -> list[Ticket]:
    """Waived tickets whose rules are due to be armed again."""
    return list(session.scalars(select(Ticket).where(Ticket.rearm_at <= now)))


def guided(session: Session) -> list[Ticket]:
    """Tickets under phone guidance."""
    return list(session.scalars(select(Ticket).where(Ticket.state == State.GUIDED.value)))


def timeline(session: Session, ticket_id: int) -> list[Journal]:
    """The journal of one ticket, oldest first."""
    return list(session.scalars(select(Journal).where(Journal.ticket_id == ticket_id).order_by(Journal.id)))


def journal_after(session: Session, journal_id: int, limit: int = 500) -> list[Journal]:
    """Journal rows after an id, for the live pages."""
    return list(session.scalars(select(Journal).where(Journal.id > journal_id).order_by(Journal.id).limit(limit)))


def last_journal_id(session: Session) -> int:
    """The newest journal id, 0 where there is none."""
    return session.scalar(select(func.max(Journal.id))) or 0


def findings(session: Session, ticket_id: int) -> list[FindingRow]:
    """Findings that joined a ticket, oldest first."""
    return list(session.scalars(select(FindingRow).where(FindingRow.ticket_id == ticket_id).order_by(FindingRow.id)))


def finding_by_key(session: Session, episode_key: str) -> FindingRow | None:
    """One episode."""
    return session.scalar(select(FindingRow).where(FindingRow.episode_key == episode_key))


def uncleared_findings(session: Session, serial: str) -> list[FindingRow]:
    """Episodes of a machine that still last."""
    return list(
        session.scalars(select(FindingRow).where(FindingRow.serial == serial, FindingRow.cleared_at_ms.is_(None)))
    )


def repairs(session: Session, ticket_id: int) -> list[Repair]:
    """Repair attempts of a ticket, oldest first."""
    return list(
        session.scalars(
            select(Repair).where(Repair.ticket_id == ticket_id).options(joinedload(Repair.person)).order_by(Repair.id)
        )
    )


def run(session: Session, run_id: int) -> TestRun:
    """One test run; raises NotFoundError."""
    found = session.get(TestRun, run_id)
    if found is None:
        raise NotFoundError("There is no test run {id}", id=run_id)
    return found


def runs(session: Session, ticket_id: int) -> list[TestRun]:
    """Test runs of a ticket, the latest first."""
    return list(session.scalars(select(TestRun).where(TestRun.ticket_id == ticket_id).order_by(TestRun.id.desc())))


def runs_of_machine(session: Session, serial: str, limit: int = 50) -> list[TestRun]:
    """Test runs of a machine, the latest first."""
    return list(
        session.scalars(select(TestRun).where(TestRun.serial == serial).order_by(TestRun.id.desc()).limit(limit))
    )


def running(session: Session) -> list[TestRun]:
    """Runs that are still being measured."""
    return list(session.scalars(select(TestRun).where(TestRun.outcome == "pending", TestRun.voided_at.is_(None))))


def running_of(session: Session, serials: Sequence[str]) -> dict[str, TestRun]:
    """The measured run of each of these machines that has one."""
    found = session.scalars(
        select(TestRun).where(
            TestRun.outcome == "pending", TestRun.voided_at.is_(None), TestRun.serial.in_(list(serials))
        )
    )
    return {run.serial: run for run in found}


def verdict(session: Session, run_id: int) -> VerdictRow | None:
    """The sealed verdict of a run."""
    return session.get(VerdictRow, run_id)


def verdicts(session: Session) -> list[tuple[VerdictRow, TestRun]]:
    """All verdicts with their runs, oldest first (the simulator's assertions read these)."""
    return [
        (row, test_run)
        for row, test_run in session.execute(
            select(VerdictRow, TestRun).join(TestRun, TestRun.id == VerdictRow.run_id).order_by(VerdictRow.run_id)
        )
    ]


def all_tickets(session: Session) -> list[Ticket]:
    """Every ticket, oldest first (the simulator's assertions read these)."""
    return list(session.scalars(_whole(select(Ticket)).order_by(Ticket.id)))


def notices(
    session: Session, *, person_id: int, roles: Sequence[str], unread_only: bool = True, limit: int = 100
) -> list[Notice]:
    """Notices for a person or one of their roles, the latest first."""
    query = select(Notice).where(or_(Notice.person_id == person_id, Notice.role.in_(list(roles))))
    if unread_only:
        query = query.where(Notice.read_at.is_(None))
    return list(session.scalars(query.order_by(Notice.id.desc()).limit(limit)))


def counts_by_state(session: Session) -> dict[str, int]:
    """How many tickets stand in each open state."""
    rows = session.execute(select(Ticket.state, func.count()).where(Ticket.state.not_in(ENDED)).group_by(Ticket.state))
    return {str(state): int(count) for state, count in rows}


def machine_for_ticket(session: Session, serial: str) -> Equipment | None:
    """The machine with its site and customer."""
    return session.scalar(
        select(Equipment)
        .where(Equipment.serial == serial)
        .options(joinedload(Equipment.site).joinedload(Site.customer))
    )


def recent_notice(session: Session, message_id: str, site: str, since: datetime) -> bool:
    """Whether this was said of the site after ``since``."""
    rows = session.scalars(select(Notice).where(Notice.message_id == message_id, Notice.at >= since))
    return any(row.params.get("site") == site for row in rows)
