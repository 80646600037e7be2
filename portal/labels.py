"""What people read for the keys of the domain: message ids, icon and tone. Tests compare each table with its domain enum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from domain.catalogue.plans import PLANS, Criterion
from domain.catalogue.rules import FAMILIES
from domain.desk.intake import REPORTED_FAMILY
from domain.tickets.states import ACTIONS, KIND_LABELS, STATES, Action, Kind, State
from portal.language import _


@dataclass(frozen=True, slots=True)
class Label:
    """A key's text with an icon and a tone: colour never carries the meaning alone."""

    text: str
    icon: str = ""
    tone: str = "neutral"


STATE_LOOK: Mapping[State, tuple[str, str]] = {
    State.REPORTED: ("inbox", "attention"),
    State.GUIDED: ("phone", "attention"),
    State.AWAITING_CONSENT: ("pause", "waiting"),
    State.READY: ("route", "attention"),
    State.DISPATCHED: ("send", "active"),
    State.ACCEPTED: ("user-check", "active"),
    State.ON_THE_WAY: ("car", "active"),
    State.REPAIRING: ("tool", "active"),
    State.WAITING_PARTS: ("pause", "waiting"),
    State.TESTING: ("activity", "testing"),
    State.VERIFIED: ("check", "good"),
    State.CLOSED: ("check-all", "done"),
    State.SOLVED_BY_PHONE: ("phone", "done"),
    State.CANCELLED: ("x", "done"),
}
ACTION_ICON: Mapping[Action, str] = {
    Action.GUIDE: "phone",
    Action.SOLVE_BY_PHONE: "check",
    Action.VISIT_NEEDED: "route",
    Action.ASK_CONSENT: "pause",
    Action.CONSENT: "check",
    Action.REFUSE: "x",
    Action.ASSIGN: "send",
    Action.REASSIGN: "route",
    Action.ACCEPT: "user-check",
    Action.DECLINE: "x",
    Action.EXPIRE: "clock",
    Action.LEAVE: "car",
    Action.ARRIVE: "pin",
    Action.WAIT_FOR_PARTS: "pause",
    Action.PARTS_ARRIVED: "inbox",
    Action.FINISH_REPAIR: "activity",
    Action.VERDICT_PASSED: "check",
    Action.VERDICT_FAILED: "x",
    Action.VERDICT_INCONCLUSIVE: "question",
    Action.EXTEND_TEST: "activity",
    Action.BACK_TO_REPAIR: "tool",
    Action.WAIVE: "shield",
    Action.EXTEND_DEADLINE: "clock",
    Action.CLOSE: "check-all",
    Action.CANCEL: "x",
}
STATE = {state.value: Label(STATES[state].label, icon, tone) for state, (icon, tone) in STATE_LOOK.items()}
PUBLIC_STATE = {state.value: Label(facts.public, *STATE_LOOK[state]) for state, facts in STATES.items()}
ACTION = {action.value: Label(ACTIONS[action].label, icon) for action, icon in ACTION_ICON.items()}
ROLE = {
    "operator": Label(_("Operator"), "phone"),
    "dispatcher": Label(_("Dispatcher"), "route"),
    "technician": Label(_("Technician"), "tool"),
    "parts_clerk": Label(_("Parts clerk"), "inbox"),
    "follow_up": Label(_("Follow-up agent"), "phone"),
    "manager": Label(_("Service manager"), "shield"),
    "dealer": Label(_("Dealer"), "building"),
    "qa": Label(_("QA engineer"), "activity"),
    "admin": Label(_("Administrator"), "settings"),
    "customer": Label(_("Customer"), "user"),
    "system": Label(_("System"), "activity"),
}
SEVERITY = {
    "1": Label(_("P1 stop or safety"), "alert", "bad"),
    "2": Label(_("P2 not usable"), "alert", "warn"),
    "3": Label(_("P3 degraded"), "trend-down", "attention"),
    "4": Label(_("P4 maintenance"), "calendar", "neutral"),
}
KIND = {
    "real": Label(_("Real fault"), "tool", "warn"),
    "false": Label(_("Operating matter"), "hand", "good"),
    "undecided": Label(_("Undecided"), "question", "neutral"),
}
TICKET_KIND = {
    kind.value: Label(KIND_LABELS[kind], icon)
    for kind, icon in {
        Kind.REPAIR: "tool",
        Kind.INSTALLATION: "machine",
        Kind.MAINTENANCE: "calendar",
        Kind.CONSULTATION: "phone",
    }.items()
}
OUTCOME = {
    "pending": Label(_("Running"), "activity", "testing"),
    "passed": Label(_("Passed"), "check", "good"),
    "failed": Label(_("Failed"), "x", "bad"),
    "inconclusive": Label(_("Inconclusive"), "question", "warn"),
}
CRITERION = {
    "pass": Label(_("Within limits"), "check", "good"),
    "fail": Label(_("Outside limits"), "x", "bad"),
    "not_assessable": Label(_("Not assessable"), "question", "neutral"),
    "pending": Label(_("Measuring"), "dots", "testing"),
}
FAMILY_ICON: Mapping[str, str] = {
    "connection": "network",
    "supply": "bolt",
    "heating": "flame",
    "sensor": "gauge",
    "water": "drop",
    "overflow": "drop",
    "motor": "tool",
    "lid": "machine",
    "fan": "fan",
    "filter": "filter",
    "climate": "gauge",
    "code": "alert",
}
FAMILY = {
    **{key: Label(FAMILIES[key].en, icon) for key, icon in FAMILY_ICON.items()},
    REPORTED_FAMILY: Label(_("Customer report"), "phone"),
    "": Label(_("Not assigned to a family"), "question"),
}
EQUIPMENT_TYPE = {
    "soymilk": Label(_("Soy-milk machine"), "machine"),
    "freshair": Label(_("Fresh-air unit"), "fan"),
}
DEADLINE = {
    "running": Label(_("left"), "clock", "neutral"),
    "warning": Label(_("left"), "clock", "warn"),
    "breached": Label(_("overdue"), "alert", "bad"),
    "paused": Label(_("clock stopped"), "pause", "waiting"),
    "ended": Label(_("ended"), "check", "done"),
}

CRITERIA: Mapping[str, Criterion] = {criterion.key: criterion for plan in PLANS.values() for criterion in plan.criteria}
"""Criterion key → criterion, whose names in both languages the catalogue holds."""

LABELS: Mapping[str, Mapping[str, Label]] = MappingProxyType(
    {
        "state": STATE,
        "public_state": PUBLIC_STATE,
        "action": ACTION,
        "role": ROLE,
        "severity": SEVERITY,
        "kind": KIND,
        "ticket_kind": TICKET_KIND,
        "outcome": OUTCOME,
        "criterion": CRITERION,
        "family": FAMILY,
        "equipment_type": EQUIPMENT_TYPE,
        "deadline": DEADLINE,
    }
)


def label(key: object, table: str) -> Label:
    """The label of ``key`` in the named table; a key that no table knows shows as itself."""
    return LABELS[table].get(str(int(key)) if isinstance(key, int) else str(key), Label(str(key)))


class About(Protocol):
    """Whatever shows a ticket: why it exists, and the fault's family of a repair."""

    @property
    def kind(self) -> str: ...

    @property
    def family(self) -> str: ...


def subject(ticket: About) -> Label:
    """What a ticket is about: the fault's family of a repair, the kind of anything else. Never a raw key."""
    if ticket.kind == Kind.REPAIR:
        return FAMILY.get(ticket.family, FAMILY[""])
    return TICKET_KIND[ticket.kind]
