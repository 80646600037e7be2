"""A ticket as the service pages show it: who, where, which machine, how much time is left, and what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from domain.catalogue.plans import CAUSES, FAULTS, MEASURES, Code
from domain.catalogue.registry import EQUIPMENT
from domain.catalogue.rules import RULE_LABELS
from domain.store.tables import Journal, Notice, Repair, Ticket
from domain.tickets import deadlines
from domain.tickets.deadlines import DeadlineView
from domain.tickets.states import ACTIONS, STATES, Action, State
from portal.labels import ACTION_ICON, OUTCOME, STATE_LOOK
from portal.language import Message, _, masked_phone
from portal.names import name_in
from portal.reasons import reason_message
from portal.triage import CAUSES as FINDING_CAUSES

Say = Callable[[str | Message], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketHead:
    """The facts at the top of a ticket. ``phone`` is masked, and ``dial`` empty, until somebody asks for it."""

    id: int
    version: int
    state: str
    kind: str
    severity: int
    family: str
    fault_kind: str
    source: str
    title: str
    type: str
    model: str
    model_name: str
    serial: str
    site: str
    address: str
    region: str
    customer: str
    contact: str
    phone: str
    dial: str
    has_phone: bool
    words: str
    assignee: str
    assignee_id: int | None
    occurrences: int
    rework_of: int | None
    opened_at: datetime
    dispatched_at: datetime | None
    window_from: datetime | None
    window_to: datetime | None
    deadline: DeadlineView
    deadline_extended: bool
    waived: bool
    probation_until: datetime | None
    warranty_until: date | None
    in_warranty: bool | None

    @property
    def open(self) -> bool:
        """Whether the ticket has not ended."""
        return STATES[State(self.state)].deadline.value != "ended"


def head_of(ticket: Ticket, now: datetime, locale: str, *, phone: bool = False) -> TicketHead:
    """The head of a ticket; the number in full only with ``phone``, after the look has been journalled."""
    machine, site, customer = ticket.equipment, ticket.site, ticket.customer
    card = EQUIPMENT[machine.type].cards.get(machine.model) if machine and machine.type in EQUIPMENT else None
    number = ticket.caller_phone or (customer.phone if customer else "")
    warranty_until = machine.warranty_until if machine else None
    return TicketHead(
        id=ticket.id,
        version=ticket.version,
        state=ticket.state,
        kind=ticket.kind,
        severity=ticket.severity,
        family=ticket.family,
        fault_kind=ticket.fault_kind,
        source=ticket.source,
        title=(machine.name or machine.serial) if machine else (customer.name if customer else ticket.caller_name),
        type=machine.type if machine else "",
        model=machine.model if machine else "",
        model_name=name_in(card, locale) if card else "",
        serial=ticket.serial or "",
        site=site.name if site else "",
        address=site.address if site else "",
        region=site.region if site else "",
        customer=customer.name if customer else "",
        contact=ticket.caller_name or (customer.contact if customer else ""),
        phone=number if phone else masked_phone(number),
        dial=number if phone else "",
        has_phone=bool(number),
        words=ticket.customer_words,
        assignee=ticket.assignee.name if ticket.assignee else "",
        assignee_id=ticket.assignee_id,
        occurrences=ticket.occurrences,
        rework_of=ticket.rework_of_id,
        opened_at=ticket.opened_at,
        dispatched_at=ticket.dispatched_at,
        window_from=ticket.window_from,
        window_to=ticket.window_to,
        deadline=deadlines.view(ticket.due_at, paused_at=ticket.paused_at, ended_at=ticket.ended_at, now=now),
        deadline_extended=ticket.deadline_extended,
        waived=ticket.waived_at is not None,
        probation_until=ticket.probation_until,
        warranty_until=warranty_until,
        in_warranty=now.date() <= warranty_until if warranty_until else None,
    )


@dataclass(frozen=True, slots=True)
class RepairLine:
    """One repair: what was found and done, in the reader's language."""

    finished_at: datetime
    person: str
    fault: str
    cause: str
    measure: str
    note: str


def repair_lines(rows: Iterable[Repair], locale: str) -> tuple[RepairLine, ...]:
    """Repairs, the latest first."""
    return tuple(
        RepairLine(
            row.finished_at,
            row.person.name if row.person else "",
            code_name(FAULTS, row.fault, locale),
            code_name(CAUSES, row.cause, locale),
            code_name(MEASURES, row.measure, locale),
            row.note,
        )
        for row in reversed(list(rows))
    )


def code_name(codes: Mapping[str, Code], key: str, locale: str) -> str:
    """A code's name; the code itself where the catalogue no longer has it."""
    return name_in(codes[key], locale) if key in codes else key


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the timeline, in the shape that ``ui.timeline`` shows; texts are ready or message ids."""

    at: datetime
    title: str
    text: str
    who: str
    icon: str
    tone: str


Said = tuple[str, str, str]
EVENTS: Mapping[str, Said] = {
    "open_from_finding": (_("Reported by the machine"), "machine", "attention"),
    "open_from_call": (_("Reported by phone"), "phone", "attention"),
    "open_from_qr": (_("Reported by QR code"), "phone", "attention"),
    "open_from_dealer": (_("Reported by the dealer"), "building", "attention"),
    "finding_joined": (_("Another finding"), "alert", "warn"),
    "finding_cleared": (_("Finding is over"), "check", "good"),
    "call_joined": (_("Customer called again"), "phone", "attention"),
    "deadline_warning": (_("Deadline is near"), "clock", "warn"),
    "escalated": (_("Deadline missed, manager told"), "alert", "bad"),
    "probation_passed": (_("Probation passed in dirty air"), "check", "good"),
    "probation_failed": (_("Probation failed"), "alert", "bad"),
    "probation_ended": (_("Probation is over"), "check", "neutral"),
    "open_rework": (_("Opened as a rework"), "alert", "attention"),
    "rework_joined": (_("An earlier repair has proved wrong"), "alert", "warn"),
    "rearmed": (_("Rules armed again after the waiver"), "refresh", "neutral"),
    "entry": (_("Check entered"), "edit", "neutral"),
    "phone_shown": (_("Phone number shown"), "eye", "neutral"),
}
"""Journal entries that are no action of a person on the ticket: title, icon, tone."""
TONES: Mapping[str, str] = {
    "verdict_passed": "good",
    "verdict_failed": "bad",
    "verdict_inconclusive": "warn",
    "waive": "warn",
    "cancel": "done",
    "decline": "warn",
    "expire": "bad",
}
DETAILS: Mapping[str, str] = {
    "assignee": _("to {value}"),
    "before": _("before: {value}"),
    "arrival_window": _("arrives {value}"),
    "place": _("at {value}"),
    "part": _("part: {value}"),
    "promised_on": _("promised for {value}"),
    "note": "{value}",
    "estimate": _("estimate {value}"),
    "consent_by": _("by {value}"),
    "consent_how": "{value}",
    "attempt": _("run {value}"),
    "kind": "{value}",
    "caller": _("caller: {value}"),
    "value": _("entered: {value}"),
}
"""What a detail of the journal says."""
CODED: Mapping[str, Mapping[str, Code]] = {"fault": FAULTS, "cause": CAUSES, "measure": MEASURES}


def happenings(rows: Iterable[Journal], say: Say, locale: str) -> tuple[Happening, ...]:
    """The journal of a ticket, the latest first."""
    return tuple(_happening(row, say, locale) for row in reversed(list(rows)))


def _happening(row: Journal, say: Say, locale: str) -> Happening:
    action = Action(row.action) if row.action in ACTIONS else None
    title, icon, tone = EVENTS.get(row.action, (row.action, "info", "neutral"))
    if action is not None:
        look = STATE_LOOK[State(row.to_state)][1] if row.to_state else "neutral"
        title, icon, tone = ACTIONS[action].label, ACTION_ICON[action], TONES.get(row.action, look)
    said = [
        say(reason_message(row.detail.get("said"), row.reason, locale)) if row.reason else "",
        *_details(row, say, locale),
    ]
    who = "" if row.actor_id is None and row.actor_name == "brewair" else row.actor_name
    return Happening(row.at, say(title), " · ".join(text for text in said if text), who, icon, tone)


def _details(row: Journal, say: Say, locale: str) -> Iterable[str]:
    rule, cause = str(row.detail.get("rule", "")), str(row.detail.get("cause", ""))
    if rule:
        yield f"{rule} {say(RULE_LABELS.get(rule, ''))}"
        yield say(FINDING_CAUSES.get(cause, cause)) if cause else ""
        return
    coded = [code_name(CODED[key], str(row.detail[key]), locale) for key in CODED if row.detail.get(key)]
    if coded:
        yield " → ".join(coded)
    for key, text in DETAILS.items():
        value = row.detail.get(key)
        if value not in (None, ""):
            yield say(Message(text, value=str(value)))


@dataclass(frozen=True, slots=True)
class NoticeLine:
    """One notice; ``tone`` is one of the page's tones."""

    id: int
    at: datetime
    tone: str
    icon: str
    message: Message
    ticket_id: int | None
    role: str
    read_at: datetime | None


NOTICE_LOOK: Mapping[str, tuple[str, str]] = {
    "danger": ("bad", "alert"),
    "warning": ("warn", "clock"),
    "info": ("active", "info"),
}


def notice_lines(rows: Iterable[Notice]) -> tuple[NoticeLine, ...]:
    """Notices in the order given."""
    return tuple(
        NoticeLine(
            row.id, row.at, *NOTICE_LOOK.get(row.level, NOTICE_LOOK["info"]), Message(row.message_id, **_spoken(row.params)),
            row.ticket_id, row.role, row.read_at,
        )
        for row in rows
    )  # fmt: skip


def _spoken(params: Mapping[str, object]) -> dict[str, object]:
    # An outcome is a key of the domain: say its name, not the key.
    return {name: OUTCOME[str(value)].text if name == "outcome" else value for name, value in params.items()}
