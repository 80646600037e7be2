"""How a ticket begins: from a finding or a call; phone guidance; consent to a charge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified

from domain.clock import from_ms, to_ms
from domain.desk.actor import SYSTEM, Actor
from domain.desk.door import change, facts_of, journal, notify
from domain.desk.form import Form, checked
from domain.errors import InvalidError
from domain.findings import Finding, Kind, Severity
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import Equipment, FindingRow, Ticket
from domain.tickets import deadlines
from domain.tickets.states import KIND_LABELS, Action, Role, State
from domain.tickets.states import Kind as TicketKind

NORMAL_FOR = timedelta(minutes=3)
GUIDE_WITHIN = timedelta(minutes=10)
"""Normal telemetry for ≥ 3 min within 10 min closes a false fault (equipment.md §5.3, EJ)."""
OFFLINE_RULE, NETWORK = "R01", "network"
REPORTED_FAMILY = "reported"
"""Family of a call whose symptom fits none: still one open ticket per machine."""


def record_findings(session: Session, findings: Iterable[Finding], now: datetime) -> None:
    """Write down raised and cleared findings and what follows from them; a finding seen before changes nothing."""
    for finding in findings:
        if finding.cleared_at is None:
            open_from_finding(session, finding, now)
        else:
            _clear(session, finding, now)


def open_from_finding(session: Session, finding: Finding, now: datetime) -> Ticket | None:
    """The ticket that the finding opened or joined; None for a redelivered or an unregistered one, or a site's network.

    Exactly one open ticket per machine and family: further findings raise its count and join its timeline. While somebody is
    at the machine, findings of every family belong to that visit.
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
    session.add(row)
    if finding.rule == OFFLINE_RULE and finding.cause == NETWORK:
        _site_offline(session, machine, now)
        return None
    return _attach(session, row, machine, now)


def _attach(session: Session, row: FindingRow, machine: Equipment, now: datetime) -> Ticket:
    ticket = query.at_the_machine(session, row.serial) or query.open_of_family(session, row.serial, row.family)
    if ticket is None:
        ticket = _open(session, row, machine, now)
    else:
        _join(session, row, ticket, now)
    row.ticket_id = ticket.id
    session.flush()
    return ticket


def _open(session: Session, row: FindingRow, machine: Equipment, now: datetime) -> Ticket:
    earlier = query.last_ended_of_family(session, row.serial, row.family, now - deadlines.REWORK_WITHIN)
    ticket = Ticket(
        kind=TicketKind.REPAIR.value,
        state=State.REPORTED.value,
        source="telemetry",
        serial=machine.serial,
        site_id=machine.site_id,
        customer_id=machine.site.customer_id,
        family=row.family,
        rule=row.rule,
        severity=row.severity,
        fault_kind=row.kind,
        triage={"rule": row.rule, "cause": row.cause, "evidence": row.evidence, "raised_at_ms": row.raised_at_ms},
        opened_at=now,
        due_at=now + deadlines.STANDARD,
        rework_of_id=earlier.id if earlier else None,
    )
    session.add(ticket)
    session.flush()
    journal(
        session, now, SYSTEM, "open_from_finding", ticket=ticket, after=State.REPORTED,
        detail={"rule": row.rule, "episode": row.episode_key, "evidence": row.evidence, "cause": row.cause},
    )  # fmt: skip
    if earlier is not None:
        notify(
            session, now, "danger", "Rework: {serial} failed again after ticket {earlier}", ticket=ticket,
            role=Role.MANAGER, serial=row.serial, earlier=earlier.id,
        )  # fmt: skip
    if row.severity == Severity.P1:
        _alarm(session, row, ticket, now)
    if row.kind == Kind.REAL:
        change(session, ticket, Action.VISIT_NEEDED, SYSTEM, now, reason="The finding is a real fault")
    return ticket


def _join(session: Session, row: FindingRow, ticket: Ticket, now: datetime) -> None:
    ticket.occurrences += 1
    ticket.severity = min(ticket.severity, row.severity)
    journal(
        session, now, SYSTEM, "finding_joined", ticket=ticket,
        detail={"rule": row.rule, "episode": row.episode_key, "evidence": row.evidence, "cause": row.cause},
    )  # fmt: skip
    if row.severity == Severity.P1:
        _alarm(session, row, ticket, now)


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


def reopen_after_waiver(session: Session, now: datetime) -> None:
    """30 minutes after a waiver the rules count again: what still lasts then opens a ticket of its own."""
    for waived in query.to_rearm(session, now):
        waived.rearm_at = None
        if waived.serial is None or State(waived.state) not in (State.CLOSED, State.VERIFIED):
            continue
        machine = registry.machine(session, waived.serial)
        for row in query.uncleared_findings(session, waived.serial):
            if row.ticket_id == waived.id and waived.state == State.CLOSED:
                journal(session, now, SYSTEM, "rearmed", ticket=waived, detail={"rule": row.rule})
                _attach(session, row, machine, now)


@dataclass(frozen=True, slots=True)
class Call:
    """What the operator typed. ``serial`` may be empty for a consultation; ``family`` for a symptom that fits none."""

    kind: TicketKind
    words: str
    caller_name: str
    caller_phone: str
    serial: str = ""
    family: str = ""
    site_id: int | None = None
    source: str = "call"


def open_from_call(session: Session, actor: Actor, call: Call, now: datetime) -> tuple[Ticket, bool]:
    """The ticket of a call, and whether it is new: an open one of the same machine and symptom is joined instead.

    Raises InvalidError (no words, unknown kind of machine) and NotFoundError (serial).
    """
    if not call.words.strip():
        raise InvalidError("Please write down the customer's own words", field="words")
    machine = registry.machine(session, call.serial) if call.serial else None
    if machine is None and call.kind is not TicketKind.CONSULTATION:
        raise InvalidError("Please choose the machine", field="serial")
    family = call.family or (REPORTED_FAMILY if call.kind is TicketKind.REPAIR else call.kind.value)
    if machine is not None:
        present = query.open_of_family(session, machine.serial, family)
        if present is not None:
            present.occurrences += 1
            present.customer_words = present.customer_words or call.words
            journal(session, now, actor, "call_joined", ticket=present, reason=call.words, detail=_caller(call))
            session.flush()
            return present, False
    ticket = Ticket(
        kind=call.kind.value,
        state=State.REPORTED.value,
        source=call.source,
        serial=machine.serial if machine else None,
        site_id=machine.site_id if machine else call.site_id,
        customer_id=machine.site.customer_id if machine else None,
        family=family,
        customer_words=call.words.strip(),
        caller_name=call.caller_name.strip(),
        caller_phone=call.caller_phone.strip(),
        opened_at=now,
        due_at=now + deadlines.STANDARD,
        triage={},
    )
    session.add(ticket)
    session.flush()
    journal(
        session, now, actor, f"open_from_{call.source}", ticket=ticket, after=State.REPORTED, reason=call.words,
        detail={"kind": KIND_LABELS[call.kind]},
    )  # fmt: skip
    return ticket, True


def _caller(call: Call) -> dict[str, object]:
    return {"caller": call.caller_name}


def guide(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """Talk the customer through the self-check; the machine is watched from now on."""
    values = checked(Action.GUIDE, form)
    ticket.guided_at = now
    return change(session, ticket, Action.GUIDE, actor, now, version=version, reason=values["note"])


def normal_since(session: Session, ticket: Ticket) -> datetime | None:
    """Since when the machine has been reporting without any open finding; None while it has one or is silent.

    Counted from the start of the guidance at the earliest: what was normal before did not help the customer.
    """
    if ticket.serial is None or ticket.guided_at is None:
        return None
    status = registry.status(session, ticket.serial)
    if status is None or status.last_ts_ms is None or status.online is False:
        return None
    if query.uncleared_findings(session, ticket.serial):
        return None
    cleared = [row.cleared_at_ms for row in query.findings(session, ticket.id) if row.cleared_at_ms is not None]
    since = max([to_ms(ticket.guided_at), *cleared])
    return from_ms(since) if status.last_ts_ms >= since else None


def telemetry_normal(session: Session, ticket: Ticket, now: datetime) -> bool:
    """Whether the machine has been normal for at least 3 minutes, up to its newest reading."""
    since = normal_since(session, ticket)
    status = registry.status(session, ticket.serial) if ticket.serial else None
    if since is None or status is None or status.last_ts_ms is None:
        return False
    return from_ms(status.last_ts_ms) - since >= NORMAL_FOR and now - from_ms(status.last_ts_ms) <= NORMAL_FOR


def solve_by_phone(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """Close without a visit, once telemetry shows the machine normal (or it has no telemetry, with a reason)."""
    values = checked(Action.SOLVE_BY_PHONE, form)
    facts = facts_of(session, ticket, telemetry_normal=telemetry_normal(session, ticket, now))
    since = normal_since(session, ticket)
    detail: dict[str, object] = {"normal_since": since.isoformat() if since else "", "telemetry": facts.has_telemetry}
    return change(
        session, ticket, Action.SOLVE_BY_PHONE, actor, now, version=version, reason=values["reason"], detail=detail,
        facts=facts,
    )  # fmt: skip


def watch_guided(session: Session, now: datetime) -> None:
    """Close guided tickets whose machine has become normal; tell the operator when ten minutes were not enough."""
    for ticket in query.guided(session):
        if telemetry_normal(session, ticket, now):
            ticket.fault_kind = Kind.FALSE.value
            solve_by_phone(session, ticket, SYSTEM, {"reason": "The machine has been normal for 3 minutes"}, now, None)
        elif ticket.guided_at and now - ticket.guided_at > GUIDE_WITHIN and not ticket.triage.get("guide_overdue"):
            ticket.triage["guide_overdue"] = True
            flag_modified(ticket, "triage")
            notify(
                session, now, "warning", "The self-check of {serial} did not help within 10 minutes", ticket=ticket,
                role=Role.OPERATOR, serial=ticket.serial or "",
            )  # fmt: skip


def visit_needed(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """Hand over to dispatch."""
    values = checked(Action.VISIT_NEEDED, form)
    return change(session, ticket, Action.VISIT_NEEDED, actor, now, version=version, reason=values["note"])


def ask_consent(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """The customer has been told the estimate; the deadline stands still until the answer."""
    values = checked(Action.ASK_CONSENT, form)
    return change(
        session, ticket, Action.ASK_CONSENT, actor, now, version=version, detail={"estimate": values["estimate"]}
    )


def consent(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """Who consented and how."""
    values = checked(Action.CONSENT, form)
    return change(session, ticket, Action.CONSENT, actor, now, version=version, detail=dict(values))


def refuse(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """No consent: the manager ends the ticket with a reason."""
    values = checked(Action.REFUSE, form)
    return change(session, ticket, Action.REFUSE, actor, now, version=version, reason=values["reason"])
