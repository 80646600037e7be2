"""Reading tickets, their journal, findings, runs and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, or_, select, text, update
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
from domain.tickets.states import AT_THE_MACHINE, STATES, TERMINAL, Deadline, Kind, State
from domain.verdicts import Outcome, Purpose

ENDED = tuple(state.value for state in TERMINAL)
OPEN = tuple(state.value for state in State if state not in TERMINAL)
"""Named one by one, so that an index on the state serves."""
AT_ONCE = 500
"""Bound variables per statement."""


def _whole(query: Select[Ticket]) -> Select[Ticket]:
    return query.options(
        joinedload(Ticket.equipment), joinedload(Ticket.site), joinedload(Ticket.customer), joinedload(Ticket.assignee)
    )


def _locked(query: Select[Ticket], *, skip: bool = False) -> Select[Ticket]:
    """For a command: nobody else changes these until it commits (PostgreSQL; SQLite has one writer at a time).

    ``skip`` leaves out what somebody else is changing right now; the next tick finds it.
    """
    return query.with_for_update(of=Ticket, key_share=True, skip_locked=skip).execution_options(populate_existing=True)


def ticket(session: Session, ticket_id: int, *, lock: bool = False) -> Ticket:
    """One ticket with machine, site, customer and assignee; raises NotFoundError. ``lock`` it to change it."""
    query = _whole(select(Ticket)).where(Ticket.id == ticket_id)
    found = session.scalar(_locked(query) if lock else query)
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
    query = _whole(select(Ticket)).where(Ticket.state.in_(OPEN)).order_by(Ticket.due_at, Ticket.id).limit(limit)
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


def open_by_state(session: Session) -> dict[str, int]:
    """How many open tickets there are in each state; states without any are 0."""
    rows = session.execute(select(Ticket.state, func.count()).where(Ticket.state.in_(OPEN)).group_by(Ticket.state))
    return {**dict.fromkeys(OPEN, 0), **{str(state): int(count) for state, count in rows}}


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
    """The one open ticket of a machine and fault family, locked."""
    return session.scalar(
        _locked(select(Ticket).where(Ticket.serial == serial, Ticket.family == family, Ticket.state.in_(OPEN)))
    )


def open_repair(session: Session, serial: str) -> Ticket | None:
    """The newest open repair ticket of a machine, whatever its family, locked."""
    query = select(Ticket).where(
        Ticket.serial == serial, Ticket.kind == Kind.REPAIR.value, Ticket.state.in_(OPEN)
    )  # fmt: skip
    return session.scalar(_locked(query.order_by(Ticket.id.desc()).limit(1)))


def keeping_findings(session: Session, serial: str, now: datetime) -> Ticket | None:
    """The ticket that keeps every finding of the machine to itself, locked: somebody is at the machine, or waived just now."""
    at_the_machine = Ticket.state.in_([state.value for state in AT_THE_MACHINE]) & (Ticket.muted_until > now)
    query = select(Ticket).where(Ticket.serial == serial, at_the_machine | (Ticket.rearm_at > now))
    return session.scalar(_locked(query.order_by(Ticket.rearm_at.is_not(None), Ticket.id).limit(1)))


def count_occurrence(session: Session, ticket: Ticket, severity: int) -> None:
    """One more finding or call of an open ticket. Leaves its version alone: nobody's decision is made stale by it."""
    session.execute(
        update(Ticket)
        .where(Ticket.id == ticket.id)
        .values(occurrences=Ticket.occurrences + 1, severity=min(ticket.severity, severity))
        .execution_options(synchronize_session=False)
    )
    session.refresh(ticket, ["occurrences", "severity"])


def last_ended(session: Session, serial: str, since: datetime, *, family: str = "") -> Ticket | None:
    """The latest repair of a machine (and family) that was closed or solved after ``since``."""
    query = select(Ticket).where(
        Ticket.serial == serial,
        Ticket.kind == Kind.REPAIR.value,
        Ticket.state.in_((State.CLOSED.value, State.SOLVED_BY_PHONE.value)),
        Ticket.ended_at >= since,
    )
    if family:
        query = query.where(Ticket.family == family)
    return session.scalar(query.order_by(Ticket.ended_at.desc(), Ticket.id.desc()).limit(1))


def repair_visits(session: Session, serial: str, since: datetime) -> int:
    """How many repairs of the machine were closed after ``since``."""
    return session.scalar(
        select(func.count()).select_from(Ticket).where(
            Ticket.serial == serial, Ticket.kind == Kind.REPAIR.value, Ticket.state == State.CLOSED.value,
            Ticket.ended_at >= since,
        )
    ) or 0  # fmt: skip


def booked_between(session: Session, person_id: int, start: datetime, end: datetime, *, but: int) -> Ticket | None:
    """Another open ticket whose visit window this technician has in that time."""
    return session.scalar(
        select(Ticket)
        .where(
            Ticket.assignee_id == person_id,
            Ticket.id != but,
            Ticket.state.in_(OPEN),
            Ticket.window_from < end,
            Ticket.window_to > start,
        )
        .limit(1)
    )


def with_running_deadline(session: Session, due_before: datetime) -> list[Ticket]:
    """Open tickets whose clock runs and ends before ``due_before`` and of which somebody has not been told yet."""
    running = [state.value for state, facts in STATES.items() if facts.deadline is Deadline.RUNS]
    return list(
        session.scalars(
            _locked(
                select(Ticket)
                .where(Ticket.state.in_(running), Ticket.due_at <= due_before, Ticket.escalated_at.is_(None))
                .order_by(Ticket.id),
                skip=True,
            )
        )
    )


def dispatched_before(session: Session, moment: datetime) -> list[Ticket]:
    """Tickets that were assigned before ``moment`` and not accepted."""
    query = _whole(select(Ticket)).where(Ticket.state == State.DISPATCHED.value, Ticket.dispatched_at <= moment)
    return list(session.scalars(_locked(query.order_by(Ticket.id), skip=True)))


def to_rearm(session: Session, now: datetime) -> list[Ticket]:
    """Tickets closed by waiver whose rules are due to be armed again."""
    query = select(Ticket).where(Ticket.rearm_at <= now).order_by(Ticket.rearm_at, Ticket.id)
    return [ticket for ticket in session.scalars(_locked(query, skip=True)) if ticket.state == State.CLOSED]


def guided(session: Session) -> list[Ticket]:
    """Tickets under phone guidance."""
    query = select(Ticket).where(Ticket.state == State.GUIDED.value).order_by(Ticket.id)
    return list(session.scalars(_locked(query, skip=True)))


def timeline(session: Session, ticket_id: int) -> list[Journal]:
    """The journal of one ticket, oldest first."""
    return list(session.scalars(select(Journal).where(Journal.ticket_id == ticket_id).order_by(Journal.id)))


def journal_after(session: Session, journal_id: int, limit: int = 500) -> list[Journal]:
    """Journal rows after an id, for the live pages; none that a transaction still under way could precede."""
    query = select(Journal).where(Journal.id > journal_id).order_by(Journal.id).limit(limit)
    if session.get_bind().dialect.name == "postgresql":
        query = query.where(text(NOTHING_BEFORE_IT_UNDER_WAY))
    return list(session.scalars(query))


NOTHING_BEFORE_IT_UNDER_WAY = (
    "journal.xmin::text::bigint < (pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295)"
)
"""PostgreSQL gives ids before it commits: a row with a lower id may appear later, and a reader of `id > last` miss it."""


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
    """Episodes of a machine that still last, oldest first."""
    return list(
        session.scalars(
            select(FindingRow)
            .where(FindingRow.serial == serial, FindingRow.cleared_at_ms.is_(None))
            .order_by(FindingRow.id)
        )
    )


def episodes_of_family(session: Session, serial: str, family: str, since: datetime) -> int:
    """How many episodes of a family the machine had after ``since``."""
    return session.scalar(
        select(func.count()).select_from(FindingRow).where(
            FindingRow.serial == serial, FindingRow.family == family, FindingRow.recorded_at >= since
        )
    ) or 0  # fmt: skip


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


NOT_WAITING = (TestRun.purpose == Purpose.REPAIR.value) | (TestRun.outcome != Outcome.PENDING.value)
"""All but a probation that still waits for dirty air: it is no run that anybody works on."""


def runs(session: Session, ticket_id: int) -> list[TestRun]:
    """Test runs of a ticket, the latest first; a probation once it has been judged."""
    query = select(TestRun).where(TestRun.ticket_id == ticket_id, NOT_WAITING)
    return list(session.scalars(query.order_by(TestRun.id.desc())))


def on_probation(session: Session) -> list[int]:
    """Ids of the tickets that are on probation."""
    return list(session.scalars(select(Ticket.id).where(Ticket.probation_until.is_not(None)).order_by(Ticket.id)))


def probation_run(session: Session, ticket_id: int) -> TestRun | None:
    """The probation of a ticket that still waits for dirty air, locked."""
    query = select(TestRun).where(
        TestRun.ticket_id == ticket_id, TestRun.purpose == Purpose.PROBATION.value,
        TestRun.outcome == Outcome.PENDING.value, TestRun.voided_at.is_(None),
    )  # fmt: skip
    return session.scalar(query.with_for_update(key_share=True).execution_options(populate_existing=True))


def rework_of(session: Session, ticket_id: int) -> Ticket | None:
    """The first ticket that was opened as the rework of this one."""
    return session.scalar(select(Ticket).where(Ticket.rework_of_id == ticket_id).order_by(Ticket.id).limit(1))


def runs_of_machine(session: Session, serial: str, limit: int = 50) -> list[TestRun]:
    """Test runs of a machine, the latest first; a probation once it has been judged."""
    query = select(TestRun).where(TestRun.serial == serial, NOT_WAITING)
    return list(session.scalars(query.order_by(TestRun.id.desc()).limit(limit)))


WANTS_SAMPLES = (TestRun.outcome == Outcome.PENDING.value) & TestRun.voided_at.is_(None)
MEASURED = WANTS_SAMPLES & (TestRun.purpose == Purpose.REPAIR.value)


def measured_run_ids(session: Session) -> list[tuple[int, int, str]]:
    """(run id, ticket id, serial) of the runs that are being measured."""
    rows = session.execute(select(TestRun.id, TestRun.ticket_id, TestRun.serial).where(MEASURED).order_by(TestRun.id))
    return [(run_id, ticket_id, serial) for run_id, ticket_id, serial in rows]


def measured_at(session: Session, site_id: int) -> bool:
    """Whether a machine at the site is being measured."""
    found = select(TestRun.id).join(Equipment, Equipment.serial == TestRun.serial)
    return session.scalar(found.where(MEASURED, Equipment.site_id == site_id).limit(1)) is not None


def measured_run(session: Session, run_id: int) -> TestRun | None:
    """A run that is being measured, locked; None when it has ended in the meantime."""
    query = select(TestRun).where(TestRun.id == run_id, MEASURED).with_for_update(key_share=True)
    return session.scalar(query.execution_options(populate_existing=True))


def runs_wanting_samples(session: Session, serials: Sequence[str]) -> list[TestRun]:
    """The runs that want samples of these machines, locked: of tickets in testing, and of probations; ``serials`` may be many."""
    found: list[TestRun] = []
    for start in range(0, len(serials), AT_ONCE):
        query = select(TestRun).where(WANTS_SAMPLES, TestRun.serial.in_(list(serials[start : start + AT_ONCE])))
        query = query.order_by(TestRun.id).with_for_update(key_share=True)
        found += session.scalars(query.execution_options(populate_existing=True))
    return found


def measured_serials(session: Session) -> list[str]:
    """Machines with a run that is being measured."""
    return list(session.scalars(select(TestRun.serial).where(MEASURED).distinct().order_by(TestRun.serial)))


def verdict(session: Session, run_id: int) -> VerdictRow | None:
    """The sealed verdict of a run."""
    return session.get(VerdictRow, run_id)


def sealed(session: Session, run_ids: Sequence[int]) -> list[dict[str, Any]]:
    """What the sealed verdicts of these runs say, without their evidence."""
    return list(session.scalars(select(VerdictRow.body).where(VerdictRow.run_id.in_(run_ids)))) if run_ids else []


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
    rows = session.execute(select(Ticket.state, func.count()).where(Ticket.state.in_(OPEN)).group_by(Ticket.state))
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
    said = select(Notice.id).where(
        Notice.message_id == message_id, Notice.at >= since, Notice.params["site"].as_string() == site
    )
    return session.scalar(said.limit(1)) is not None
