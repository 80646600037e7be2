"""How a ticket begins: from a finding or a call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from domain.catalogue.rules import CODE_SUBJECTS, FAMILIES
from domain.clock import to_ms
from domain.desk.actor import SYSTEM, Actor
from domain.desk.door import change, journal, notify
from domain.errors import InvalidError
from domain.findings import Finding, Kind, Severity
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import Equipment, FindingRow, Ticket
from domain.tickets import deadlines
from domain.tickets.states import KIND_LABELS, Action, Role, State
from domain.tickets.states import Kind as TicketKind

OFFLINE_RULE, NETWORK = "R01", "network"
OFTEN, OFTEN_WITHIN = 3, timedelta(days=7)
"""An operating matter that comes up this often is suspected to be a real fault (equipment.md §5.3, EJ)."""
OFTEN_FAULT = "The same operating matter came up three times in 7 days"
REAL_FAULT = "The finding is a real fault"
CAME_BACK = "The fault came back during the probation"
SOURCES = ("call", "qr", "dealer")
REPORTED_FAMILY = "reported"
"""Family of a call whose symptom fits none: still one open ticket per machine."""


def record_findings(session: Session, findings: Iterable[Finding], now: datetime) -> None:
    """Write down raised and cleared findings and what follows from them; a finding seen before changes nothing."""
    for finding in findings:
        open_from_finding(session, finding, now)
        if finding.cleared_at is not None:
            _clear(session, finding, now)


def open_from_finding(session: Session, finding: Finding, now: datetime) -> Ticket | None:
    """The ticket that the finding opened or joined; None for a redelivered or an unregistered one, or a site's network.

    Exactly one open ticket per machine and family: further findings raise its count and join its timeline. While somebody is
    at the machine, or for 30 minutes after a waiver, findings of every family belong to that ticket.
    """
    if query.finding_by_key(session, finding.episode_key) is not None:
        return None
    machine = query.machine_for_ticket(session, finding.serial)
    if machine is None:
        return None
    row = FindingRow(
        episode_key=finding.episode_key,
        serial=finding.serial,
        rule=finding.rule,
        family=finding.family,
        severity=int(finding.severity),
        kind=finding.kind.value,
        cause=finding.cause,
        raised_at_ms=finding.raised_at,
        evidence=dict(finding.evidence),
        recorded_at=now,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        if query.finding_by_key(session, finding.episode_key) is None:
            raise
        return None  # another gateway wrote the same episode in this very moment
    if finding.rule == OFFLINE_RULE and finding.cause == NETWORK:
        _site_offline(session, machine, now)
        return None
    return _attach(session, row, machine, now)


def _attach(session: Session, row: FindingRow, machine: Equipment, now: datetime) -> Ticket:
    subject = CODE_SUBJECTS.get(row.cause, "") if row.family == "code" else ""
    kept = query.keeping_findings(session, row.serial, now) or query.open_of_family(session, row.serial, row.family)
    if kept is None and subject:  # the machine has noticed, too
        kept = query.open_of_family(session, row.serial, subject)
    ticket, is_new = (kept, False) if kept else _first(session, _ticket_for(session, row, machine, now))
    row.ticket_id = ticket.id
    if is_new:
        _opened(session, row, ticket, now)
    else:
        _join(session, row, ticket, now)
    session.flush()
    return ticket


def _first(session: Session, ticket: Ticket) -> tuple[Ticket, bool]:
    """``ticket``, now in the database, or the one that somebody else opened for the same machine and family just before."""
    try:
        with session.begin_nested():
            session.add(ticket)
        return ticket, True
    except IntegrityError:
        present = query.open_of_family(session, ticket.serial or "", ticket.family)
        if present is None:
            raise
        return present, False


def _ticket_for(session: Session, row: FindingRow, machine: Equipment, now: datetime) -> Ticket:
    earlier = query.last_ended(session, row.serial, now - deadlines.REWORK_WITHIN, family=row.family)
    often = query.episodes_of_family(session, row.serial, row.family, now - OFTEN_WITHIN)
    suspected = row.kind == Kind.FALSE and often >= OFTEN
    return Ticket(
        kind=TicketKind.REPAIR.value,
        state=State.REPORTED.value,
        source="telemetry",
        serial=machine.serial,
        site_id=machine.site_id,
        customer_id=machine.site.customer_id,
        family=row.family,
        rule=row.rule,
        severity=row.severity,
        fault_kind=Kind.REAL.value if suspected else row.kind,
        occurrences=1,
        triage={
            "rule": row.rule,
            "cause": row.cause,
            "evidence": row.evidence,
            "raised_at_ms": row.raised_at_ms,
            **({"repeated": often} if suspected else {}),
        },
        opened_at=now,
        due_at=now + deadlines.STANDARD,
        rework_of_id=earlier.id if earlier else None,
    )


def _opened(session: Session, row: FindingRow, ticket: Ticket, now: datetime) -> None:
    journal(
        session, now, SYSTEM, "open_from_finding", ticket=ticket, after=State.REPORTED,
        detail={"rule": row.rule, "episode": row.episode_key, "evidence": row.evidence, "cause": row.cause},
    )  # fmt: skip
    _tell_of_rework(session, ticket, now)
    if row.severity == Severity.P1:
        _alarm(session, row, ticket, now)
    if ticket.fault_kind == Kind.REAL:
        reason = OFTEN_FAULT if "repeated" in ticket.triage else REAL_FAULT
        change(session, ticket, Action.VISIT_NEEDED, SYSTEM, now, reason=reason)


def _tell_of_rework(session: Session, ticket: Ticket, now: datetime) -> None:
    if ticket.rework_of_id is not None:
        notify(
            session, now, "danger", "Rework: {serial} failed again after ticket {earlier}", ticket=ticket,
            role=Role.MANAGER, serial=ticket.serial or "", earlier=ticket.rework_of_id,
        )  # fmt: skip


def _join(session: Session, row: FindingRow, ticket: Ticket, now: datetime) -> None:
    was_verified = ticket.state == State.VERIFIED
    query.count_occurrence(session, ticket, row.severity)
    journal(
        session, now, SYSTEM, "finding_joined", ticket=ticket,
        detail={"rule": row.rule, "episode": row.episode_key, "evidence": row.evidence, "cause": row.cause},
    )  # fmt: skip
    if row.severity == Severity.P1:
        _alarm(session, row, ticket, now)
    if was_verified and ticket.probation_until is not None and row.rule == ticket.rule:
        change(session, ticket, Action.BACK_TO_REPAIR, SYSTEM, now, reason=CAME_BACK)
    if was_verified and ticket.assignee_id is not None:
        notify(
            session, now, "danger", "{rule} fired again on {serial} after its test run", ticket=ticket,
            person_id=ticket.assignee_id, rule=row.rule, serial=row.serial,
        )  # fmt: skip
    if row.kind == Kind.REAL and State(ticket.state) in (State.REPORTED, State.GUIDED):
        ticket.fault_kind = Kind.REAL.value
        change(session, ticket, Action.VISIT_NEEDED, SYSTEM, now, reason=REAL_FAULT)


def _alarm(session: Session, row: FindingRow, ticket: Ticket, now: datetime) -> None:
    notify(
        session, now, "danger", "Safety: {rule} on {serial}", ticket=ticket, role=Role.DISPATCHER,
        rule=row.rule, serial=row.serial,
    )  # fmt: skip


def _site_offline(session: Session, machine: Equipment, now: datetime) -> None:
    """A whole site that fell silent is a matter of its network: one notice, no repair tickets."""
    journal(session, now, SYSTEM, "site_offline", serial=machine.serial, detail={"site": machine.site.name})
    if not query.recent_notice(session, SITE_OFFLINE, machine.site.name, now - timedelta(hours=1)):
        notify(session, now, "warning", SITE_OFFLINE, role=Role.DISPATCHER, site=machine.site.name)


SITE_OFFLINE = "All machines of {site} are silent: probably the network"


def _clear(session: Session, finding: Finding, now: datetime) -> None:
    row = query.finding_by_key(session, finding.episode_key)
    if row is None or row.cleared_at_ms is not None:
        return
    row.cleared_at_ms = finding.cleared_at
    if row.ticket_id is not None:
        journal(
            session, now, SYSTEM, "finding_cleared", ticket=query.ticket(session, row.ticket_id),
            detail={"rule": row.rule, "episode": row.episode_key},
        )  # fmt: skip


def open_rework(session: Session, ended: Ticket, reason: str, now: datetime, detail: dict[str, object]) -> Ticket:
    """The ticket of a repair that has proved wrong after its ticket ended; an open one of machine and family is joined."""
    ticket, is_new = _first(
        session,
        Ticket(
            kind=TicketKind.REPAIR.value,
            state=State.REPORTED.value,
            source="telemetry",
            serial=ended.serial,
            site_id=ended.site_id,
            customer_id=ended.customer_id,
            family=ended.family,
            rule=ended.rule,
            severity=ended.severity,
            fault_kind=Kind.REAL.value,
            occurrences=1,
            triage={},
            opened_at=now,
            due_at=now + deadlines.STANDARD,
            rework_of_id=ended.id,
        ),
    )
    if is_new:
        journal(session, now, SYSTEM, "open_rework", ticket=ticket, after=State.REPORTED, reason=reason, detail=detail)
        _tell_of_rework(session, ticket, now)
        change(session, ticket, Action.VISIT_NEEDED, SYSTEM, now, reason=REAL_FAULT)
    else:
        query.count_occurrence(session, ticket, ended.severity)
        journal(session, now, SYSTEM, "rework_joined", ticket=ticket, reason=reason, detail=detail)
    return ticket


def reopen_what_lasts(session: Session, ended: Ticket, now: datetime) -> None:
    """Findings of a ticket that has just ended and that still last go on in tickets of their own.

    A verdict after them, on the family of the ticket, has disproved them: they count as cleared.
    """
    if ended.serial is None:
        return
    machine = registry.machine(session, ended.serial)
    for row in query.uncleared_findings(session, ended.serial):
        if row.ticket_id != ended.id:
            continue
        proved = ended.waived_at is None and ended.verified_at is not None and row.recorded_at <= ended.verified_at
        if proved and row.family == ended.family:
            row.cleared_at_ms = to_ms(ended.verified_at or now)
        else:
            _attach(session, row, machine, now)


def reopen_after_waiver(session: Session, now: datetime) -> None:
    """30 minutes after a waiver the rules count again: what still lasts then opens a ticket of its own."""
    for waived in query.to_rearm(session, now):
        waived.rearm_at = None
        journal(session, now, SYSTEM, "rearmed", ticket=waived)
        session.flush()
        reopen_what_lasts(session, waived, now)


@dataclass(frozen=True, slots=True)
class Call:
    """What the operator typed. ``serial`` may be empty for a consultation; ``family`` for a symptom that fits none.

    ``separate``: the operator has seen the machine's open repair and says that this is another matter.
    """

    kind: TicketKind
    words: str
    caller_name: str
    caller_phone: str
    serial: str = ""
    family: str = ""
    site_id: int | None = None
    source: str = "call"
    separate: bool = False


def open_from_call(session: Session, actor: Actor, call: Call, now: datetime) -> tuple[Ticket, bool]:
    """The ticket of a call, and whether it is new: an open one of the same machine and symptom is joined instead.

    A repair call without a family joins whatever repair of the machine is open, unless it is ``separate``.
    Raises InvalidError (no words, no machine, unknown family or source) and NotFoundError (serial).
    """
    if not call.words.strip():
        raise InvalidError("Please write down the customer's own words", field="words")
    machine = registry.machine(session, call.serial.strip()) if call.serial.strip() else None
    if machine is None and call.kind is not TicketKind.CONSULTATION:
        raise InvalidError("Please choose the machine", field="serial")
    if call.family and call.family not in FAMILIES:
        raise InvalidError("There is no fault family '{family}'", field="family", family=call.family)
    if call.source not in SOURCES:
        raise InvalidError("A ticket cannot come from '{source}'", field="source", source=call.source)
    ticket = _ticket_of_call(session, call, machine, now)
    present = None
    if machine is not None:
        present = query.open_of_family(session, machine.serial, ticket.family)
        if present is None and call.kind is TicketKind.REPAIR and not call.family and not call.separate:
            present = query.open_repair(session, machine.serial)
    opened, is_new = (present, False) if present else _first(session, ticket)
    if is_new:
        journal(
            session, now, actor, f"open_from_{call.source}", ticket=opened, after=State.REPORTED, reason=call.words,
            detail={"kind": KIND_LABELS[call.kind]},
        )  # fmt: skip
        _tell_of_rework(session, opened, now)
    else:
        query.count_occurrence(session, opened, opened.severity)
        opened.customer_words = opened.customer_words or call.words.strip()
        opened.caller_name = opened.caller_name or call.caller_name.strip()
        opened.caller_phone = opened.caller_phone or call.caller_phone.strip()
        journal(
            session, now, actor, "call_joined", ticket=opened, reason=call.words, detail={"caller": call.caller_name}
        )
    session.flush()
    return opened, is_new


def _ticket_of_call(session: Session, call: Call, machine: Equipment | None, now: datetime) -> Ticket:
    earlier = None
    if machine is not None and call.kind is TicketKind.REPAIR:
        earlier = query.last_ended(session, machine.serial, now - deadlines.REWORK_WITHIN, family=call.family)
    return Ticket(
        kind=call.kind.value,
        state=State.REPORTED.value,
        source=call.source,
        serial=machine.serial if machine else None,
        site_id=machine.site_id if machine else call.site_id,
        customer_id=machine.site.customer_id if machine else None,
        # a fault's family is for repairs alone: findings join by it, and a consultation ends without proof
        family=(call.family or REPORTED_FAMILY) if call.kind is TicketKind.REPAIR else call.kind.value,
        customer_words=call.words.strip(),
        caller_name=call.caller_name.strip(),
        caller_phone=call.caller_phone.strip(),
        opened_at=now,
        due_at=now + deadlines.STANDARD,
        occurrences=1,
        rework_of_id=earlier.id if earlier else None,
        triage={},
    )
