"""A customer on the phone: what telemetry says of the complaint, and the ticket that comes of the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from domain.clock import to_ms
from domain.desk.actor import Actor
from domain.desk.form import Form
from domain.desk.intake import Call, open_from_call
from domain.desk.perform import perform
from domain.desk.visit import card_for
from domain.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from domain.findings import Finding, Kind, Severity
from domain.readings import Value
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import FindingRow, Ticket
from domain.telemetry.port import Telemetry
from domain.tickets.states import TERMINAL, Action, State
from domain.tickets.states import Kind as TicketKind
from domain.tickets.triage import LOOK_BACK_MS, SYMPTOMS, Claim, Sample, Symptom, assess

NEXT_STEPS: Mapping[str, Action | None] = {"": None, "guide": Action.GUIDE, "visit": Action.VISIT_NEEDED}
"""What may follow at once when a call is taken."""
LONGEST: Mapping[str, int] = {"words": 2000, "caller_name": 100, "caller_phone": 30, "began": 200, "usage": 200}
"""Characters of what is typed during a call."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """What telemetry says of a complaint. ``readable`` is False while the telemetry store is away."""

    symptom: Symptom
    claim: Claim
    readable: bool


def weigh(session: Session, telemetry: Telemetry, serial: str, symptom_key: str, now: datetime) -> Weighed | None:
    """Weigh a complaint about a machine; None where the machine's type has no such symptom, or its model has no card."""
    machine = registry.machine(session, serial)
    symptom = SYMPTOMS.get(machine.type, {}).get(symptom_key)
    if symptom is None:
        return None
    try:
        card = card_for(machine)
    except NotFoundError:
        return None
    now_ms, status = to_ms(now), registry.status(session, serial)
    samples, readable = _samples(telemetry, serial, machine.type, now_ms)
    heard = status.last_seen_at if status else None
    claim = assess(
        symptom,
        card,
        samples,
        [finding_of(row) for row in query.uncleared_findings(session, serial)],
        now_ms=now_ms,
        last_ms=to_ms(heard) if heard else None,
        online=status.online if status else None,
    )
    return Weighed(symptom, claim, readable)


def _samples(telemetry: Telemetry, serial: str, kind: str, now_ms: int) -> tuple[list[Sample], bool]:
    try:
        rows = telemetry.range(serial, kind, now_ms - LOOK_BACK_MS, now_ms + 1)
    except UnavailableError:
        return [], False
    return [Sample(row.ts, row.values) for row in rows], True


def finding_of(row: FindingRow) -> Finding:
    """The value that a stored episode stands for."""
    evidence: dict[str, Value] = {
        key: value for key, value in row.evidence.items() if isinstance(value, (int, float, str))
    }
    return Finding(
        rule=row.rule,
        family=row.family,
        severity=Severity(row.severity),
        serial=row.serial,
        raised_at=row.raised_at_ms,
        kind=Kind(row.kind),
        cleared_at=row.cleared_at_ms,
        cause=row.cause,
        evidence={key: value for key, value in evidence.items() if not isinstance(value, bool)},
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """A call as the operator typed it. ``join`` is the open ticket of the machine that the caller is calling about."""

    call: Call
    symptom: str = ""
    began: str = ""
    usage: str = ""
    join: int | None = None
    next_step: str = ""


def take_call(
    session: Session, actor: Actor, taken: Taken, weighed: Weighed | None, now: datetime
) -> tuple[Ticket, bool]:
    """The ticket of a call, new or joined, and whether it is new; then, where wanted and possible, its next step.

    The complaint, what telemetry said of it and the figures it went by stay with the ticket. Raises InvalidError (field by
    field; ``join`` where the operator has not chosen what to do with an open repair), NotFoundError (machine, or ticket to
    join), ConflictError (the ticket to join has ended).
    """
    _check(taken)
    call = _prefilled(session, taken, weighed)
    if taken.join is not None:
        present = query.ticket(session, taken.join)
        if present.serial != call.serial:
            raise NotFoundError("There is no ticket {id}", id=taken.join)
        if State(present.state) in TERMINAL:
            raise ConflictError("Ticket {id} has ended; open a new one", id=taken.join)
        call = replace(call, kind=TicketKind(present.kind), family=_family_to_join(present), separate=False)
    elif _must_choose(session, call):
        raise InvalidError("This machine has an open ticket: join it, or say that this is another matter", field="join")
    ticket, is_new = open_from_call(session, actor, call, now)
    if is_new and weighed is not None and ticket.fault_kind == Kind.UNDECIDED.value:
        ticket.fault_kind = weighed.claim.kind.value
    complaint = _complaint(taken, weighed)
    if complaint:
        ticket.triage = {**ticket.triage, "call": complaint}
    session.flush()
    action = NEXT_STEPS[taken.next_step]
    if action is not None and State(ticket.state) is State.REPORTED:
        ticket = perform(session, actor, ticket.id, action, {}, now)
    return ticket, is_new


def _must_choose(session: Session, call: Call) -> bool:
    may_be_the_same = bool(call.serial) and call.kind is TicketKind.REPAIR and not call.separate
    return may_be_the_same and query.open_repair(session, call.serial) is not None


def _check(taken: Taken) -> None:
    call = taken.call
    typed: Form = {
        "words": call.words,
        "caller_name": call.caller_name,
        "caller_phone": call.caller_phone,
        "began": taken.began,
        "usage": taken.usage,
    }
    for field, text in typed.items():
        if len(text) > LONGEST[field]:
            raise InvalidError("At most {count} characters", field=field, count=LONGEST[field])
        if any(ord(character) < 32 and character not in "\r\n\t" for character in text):
            raise InvalidError("Control characters cannot be used here", field=field)
    digits = call.caller_phone.translate(str.maketrans("", "", " -()（）+"))
    if digits and not (digits.isascii() and digits.isdigit() and 5 <= len(digits) <= 15):
        raise InvalidError("'{text}' is not a telephone number", field="caller_phone", text=call.caller_phone)
    if taken.next_step not in NEXT_STEPS:
        raise InvalidError("Please choose one", field="next_step")


def _prefilled(session: Session, taken: Taken, weighed: Weighed | None) -> Call:
    """Who called, where the operator left it empty: the customer's contact; and the family that the complaint belongs to."""
    call = replace(taken.call, words=taken.call.words.strip())
    if call.serial and not (call.caller_phone.strip() and call.caller_name.strip()):
        customer = registry.machine(session, call.serial).site.customer
        call = replace(
            call,
            caller_name=call.caller_name.strip() or customer.contact or customer.name,
            caller_phone=call.caller_phone.strip() or customer.phone,
        )
    if weighed is None or call.kind is not TicketKind.REPAIR:
        return call
    return replace(call, family=weighed.claim.family)


def _family_to_join(present: Ticket) -> str:
    # Families of calls that fitted none are the desk's own; the desk finds them by the empty name.
    return "" if present.family in ("reported", present.kind) else present.family


def _complaint(taken: Taken, weighed: Weighed | None) -> dict[str, object]:
    complaint: dict[str, object] = {
        key: text.strip()
        for key, text in {"symptom": taken.symptom, "began": taken.began, "usage": taken.usage}.items()
        if text.strip()
    }
    if weighed is None:
        complaint.pop("symptom", None)
        return complaint
    claim = weighed.claim
    return complaint | {
        "stand": claim.stand.value,
        "kind": claim.kind.value,
        "guide": claim.guide,
        "findings": [finding.episode_key for finding in claim.findings],
        "figures": [
            {
                "name": seen.evidence.name, "unit": seen.evidence.unit, "shows": seen.shows, "value": seen.value,
                "low": seen.low, "high": seen.high, "samples": [list(sample) for sample in seen.samples],
            }
            for seen in claim.seen
        ],
    }  # fmt: skip
