"""What the pages of a call show: machines found, the chosen one with its open tickets, what telemetry says, the self-check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy.orm import Session

from domain.clock import from_ms
from domain.desk import guidance
from domain.desk.actor import Actor
from domain.desk.calls import Weighed
from domain.desk.perform import available
from domain.store.queries import registry, search
from domain.store.queries import tickets as query
from domain.store.tables import Equipment, Ticket
from domain.tickets import deadlines
from domain.tickets.deadlines import DeadlineView
from domain.tickets.states import TERMINAL, Action, State
from domain.tickets.triage import FAMILY_GUIDES, GUIDES, SYMPTOMS, Seen, Stand
from portal.language import masked_phone
from portal.machine_now import MachineNow, machine_now
from portal.render import Form
from portal.triage import FindingLine, finding_lines

WITHIN = guidance.GUIDE_WITHIN
NORMAL_FOR = guidance.NORMAL_FOR
LAST_SAMPLES = 8
"""So many samples of each figure are listed, the newest."""


@dataclass(frozen=True, slots=True)
class MachineChoice:
    """A machine that the caller may mean."""

    serial: str
    name: str
    type: str
    model: str
    site: str
    address: str
    customer: str
    phone: str
    online: bool | None
    findings: int
    tickets: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class OpenTicket:
    """An open ticket of the chosen machine, which the call may join."""

    id: int
    state: str
    kind: str
    family: str
    severity: int
    words: str
    assignee: str
    occurrences: int
    opened_at: datetime
    deadline: DeadlineView
    chosen: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The machine of the call; ``phone`` is masked, ``warranty`` one of in, out, unknown."""

    choice: MachineChoice
    contact: str
    region: str
    installed_on: date | None
    warranty_until: date | None
    warranty: str
    now: MachineNow
    tickets: tuple[OpenTicket, ...]
    findings: tuple[FindingLine, ...]


@dataclass(frozen=True, slots=True)
class SeenLine:
    """One figure of a claim; times of its first and last sample, and the newest samples themselves."""

    name: str
    unit: str
    flag: bool
    shows: bool
    value: float
    low: float | None
    high: float | None
    count: int
    first_at: datetime
    last_at: datetime
    newest: tuple[tuple[datetime, float], ...]


@dataclass(frozen=True, slots=True)
class ClaimView:
    """What telemetry says of the complaint, and the proposal. ``findings`` are those that explain it, the deciding first."""

    symptom: str
    stand: Stand
    kind: str
    family: str
    silent: bool
    danger: bool
    readable: bool
    seen: tuple[SeenLine, ...]
    findings: tuple[FindingLine, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCallView:
    """The page on which a call is taken."""

    form: Form
    q: str
    found: tuple[MachineChoice, ...]
    chosen: Chosen | None
    symptoms: tuple[tuple[str, str], ...]
    claim: ClaimView | None
    may_guide: bool
    may_send: bool
    may_add_machine: bool
    problem: bool
    """The form came back."""


def choices(rows: Sequence[search.MachineRow], chosen: str) -> tuple[MachineChoice, ...]:
    """Rows of a search as choices."""
    return tuple(_choice(row, row.machine.serial == chosen) for row in rows)


def _choice(row: search.MachineRow, chosen: bool) -> MachineChoice:
    machine, site = row.machine, row.machine.site
    return MachineChoice(
        serial=machine.serial,
        name=machine.name,
        type=machine.type,
        model=machine.model,
        site=site.name,
        address=site.address,
        customer=site.customer.name,
        phone=masked_phone(site.customer.phone),
        online=row.status.online if row.status else None,
        findings=row.findings,
        tickets=row.tickets,
        chosen=chosen,
    )


def chosen_of(session: Session, serial: str, join: str, now: datetime, today: date) -> Chosen:
    """The machine of the call, its open tickets the most urgent first. Raises NotFoundError."""
    machine = registry.machine(session, serial)
    row = search.machine_row(session, machine)
    present = [t for t in query.tickets_of_machine(session, serial) if State(t.state) not in TERMINAL]
    return Chosen(
        choice=_choice(row, True),
        contact=machine.site.customer.contact,
        region=machine.site.region,
        installed_on=machine.installed_on,
        warranty_until=machine.warranty_until,
        warranty=warranty_of(machine, today),
        now=machine_now(session, machine, now),
        tickets=tuple(_open_ticket(t, join, now) for t in sorted(present, key=lambda t: (t.severity, t.due_at))),
        findings=finding_lines(query.uncleared_findings(session, serial)),
    )


def warranty_of(machine: Equipment, today: date) -> str:
    """``in``, ``out`` or ``unknown``."""
    if machine.warranty_until is None:
        return "unknown"
    return "in" if machine.warranty_until >= today else "out"


def _open_ticket(ticket: Ticket, join: str, now: datetime) -> OpenTicket:
    return OpenTicket(
        id=ticket.id,
        state=ticket.state,
        kind=ticket.kind,
        family=ticket.family,
        severity=ticket.severity,
        words=ticket.customer_words,
        assignee=ticket.assignee.name if ticket.assignee else "",
        occurrences=ticket.occurrences,
        opened_at=ticket.opened_at,
        deadline=deadlines.view(ticket.due_at, paused_at=ticket.paused_at, ended_at=ticket.ended_at, now=now),
        chosen=str(ticket.id) == join,
    )


def symptoms_of(equipment_type: str) -> tuple[tuple[str, str], ...]:
    """Key and label of every complaint about a type."""
    return tuple((symptom.key, symptom.label) for symptom in SYMPTOMS.get(equipment_type, {}).values())


def claim_view(session: Session, serial: str, weighed: Weighed) -> ClaimView:
    """A claim in words and figures."""
    claim = weighed.claim
    order = [finding.episode_key for finding in claim.findings]
    rows = sorted(
        (row for row in query.uncleared_findings(session, serial) if row.episode_key in order),
        key=lambda row: order.index(row.episode_key),
    )
    return ClaimView(
        symptom=weighed.symptom.label,
        stand=claim.stand,
        kind=claim.kind.value,
        family=claim.family,
        silent=claim.silent,
        danger=claim.danger,
        readable=weighed.readable,
        seen=tuple(_seen_line(seen) for seen in claim.seen),
        findings=tuple(line for row in rows for line in finding_lines([row])),
        steps=claim.steps,
    )


def _seen_line(seen: Seen) -> SeenLine:
    return SeenLine(
        name=seen.evidence.name,
        unit=seen.evidence.unit,
        flag=seen.evidence.flag,
        shows=seen.shows,
        value=seen.value,
        low=seen.low,
        high=seen.high,
        count=len(seen.samples),
        first_at=from_ms(seen.samples[0][0]),
        last_at=from_ms(seen.samples[-1][0]),
        newest=tuple((from_ms(ts), figure) for ts, figure in seen.samples[: -LAST_SAMPLES - 1 : -1]),
    )


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """How the machine is doing while the customer checks. ``normal_for`` counts up to ``NORMAL_FOR``."""

    normal: bool
    normal_for: timedelta
    left: timedelta
    watched_for: timedelta
    overdue: bool
    by_itself: bool
    """brewair closes the ticket itself, because telemetry saw the fault come and go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallView:
    """A call that was taken: what happens next."""

    id: int
    version: int
    state: str
    kind: str
    family: str
    fault_kind: str
    words: str
    caller: str
    phone: str
    serial: str
    machine: str
    site: str
    symptom: str
    began: str
    usage: str
    stand: str
    opened_at: datetime
    deadline: DeadlineView
    steps: tuple[str, ...]
    check: SelfCheck | None
    now: MachineNow | None
    findings: tuple[FindingLine, ...]
    actions: tuple[str, ...]
    ended: bool
    ended_reason: str
    address: str


def call_view(session: Session, ticket: Ticket, actor: Actor, now: datetime, address: str) -> CallView:
    """The ticket of a call for whoever took it; ``address`` is where the live block fetches itself again."""
    machine = ticket.equipment
    call: Mapping[str, object] = ticket.triage.get("call", {})
    symptom = SYMPTOMS.get(machine.type, {}).get(str(call.get("symptom", ""))) if machine else None
    state = State(ticket.state)
    ended = state in TERMINAL
    story = query.timeline(session, ticket.id)
    last = next((row for row in reversed(story) if row.to_state == ticket.state), None)
    return CallView(
        id=ticket.id,
        version=ticket.version,
        state=ticket.state,
        kind=ticket.kind,
        family=ticket.family,
        fault_kind=ticket.fault_kind,
        words=ticket.customer_words,
        caller=ticket.caller_name,
        phone=masked_phone(ticket.caller_phone),
        serial=ticket.serial or "",
        machine=machine.name if machine else "",
        site=ticket.site.name if ticket.site else "",
        symptom=symptom.label if symptom else "",
        began=str(call.get("began", "")),
        usage=str(call.get("usage", "")),
        stand=str(call.get("stand", "")),
        opened_at=ticket.opened_at,
        deadline=deadlines.view(ticket.due_at, paused_at=ticket.paused_at, ended_at=ticket.ended_at, now=now),
        steps=steps_of(ticket),
        check=self_check(session, ticket, now) if state is State.GUIDED else None,
        now=machine_now(session, machine, now) if machine else None,
        findings=finding_lines(query.findings(session, ticket.id)),
        actions=tuple(a.value for a in available(session, actor, ticket, now) if a in CALL_ACTIONS),
        ended=ended,
        ended_reason=last.reason if ended and last else "",
        address=address,
    )


CALL_ACTIONS = (Action.GUIDE, Action.SOLVE_BY_PHONE, Action.VISIT_NEEDED)
"""What may be done to a ticket while the customer is on the phone."""


def steps_of(ticket: Ticket) -> tuple[str, ...]:
    """The self-check of a ticket: that of the call, else that of its family."""
    call = ticket.triage.get("call", {})
    guide = call.get("guide", "") if isinstance(call, dict) else ""
    if not guide and ticket.fault_kind != "real" and ticket.equipment is not None:
        guide = FAMILY_GUIDES.get((ticket.equipment.type, ticket.family), "")
    return GUIDES.get(guide, ())


def self_check(session: Session, ticket: Ticket, now: datetime) -> SelfCheck:
    """How far the machine is towards three normal minutes, up to its newest reading."""
    since = guidance.normal_since(session, ticket)
    status = registry.status(session, ticket.serial) if ticket.serial else None
    heard = status.last_seen_at if status else None
    normal_for = max(timedelta(0), heard - since) if since and heard else timedelta(0)
    watched_for = now - ticket.guided_at if ticket.guided_at else timedelta(0)
    return SelfCheck(
        normal=since is not None,
        normal_for=min(normal_for, NORMAL_FOR),
        left=max(timedelta(0), NORMAL_FOR - normal_for),
        watched_for=watched_for,
        overdue=watched_for > WITHIN,
        by_itself=bool(query.findings(session, ticket.id)),
    )
