"""The ticket as one table: states, actions, who may do what, what it needs and which guards hold.

Guards, buttons, customer texts, the diagram in the docs and the tests are all made from what stands here. A pair
(state, action) that is absent is an error. Labels are English gettext ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from domain.errors import ForbiddenError, IllegalTransitionError, RefusedError


class Kind(StrEnum):
    """Why a ticket exists."""

    REPAIR = "repair"
    INSTALLATION = "installation"
    MAINTENANCE = "maintenance"
    CONSULTATION = "consultation"


KIND_LABELS: Mapping[Kind, str] = {
    Kind.REPAIR: "Repair",
    Kind.INSTALLATION: "Installation",
    Kind.MAINTENANCE: "Maintenance",
    Kind.CONSULTATION: "Consultation",
}


class Role(StrEnum):
    """Who acts (service-process.md). ``SYSTEM`` is brewair itself, ``CUSTOMER`` somebody without a log-in."""

    OPERATOR = "operator"
    DISPATCHER = "dispatcher"
    TECHNICIAN = "technician"
    PARTS_CLERK = "parts_clerk"
    FOLLOW_UP = "follow_up"
    MANAGER = "manager"
    DEALER = "dealer"
    QA = "qa"
    ADMIN = "admin"
    CUSTOMER = "customer"
    SYSTEM = "system"


class State(StrEnum):
    """Where a ticket stands."""

    REPORTED = "reported"
    GUIDED = "guided"
    AWAITING_CONSENT = "awaiting_consent"
    READY = "ready"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    ON_THE_WAY = "on_the_way"
    REPAIRING = "repairing"
    WAITING_PARTS = "waiting_parts"
    TESTING = "testing"
    VERIFIED = "verified"
    CLOSED = "closed"
    SOLVED_BY_PHONE = "solved_by_phone"
    CANCELLED = "cancelled"


class Deadline(StrEnum):
    """What the 24 h / 48 h clock does in a state."""

    RUNS = "runs"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class StateFacts:
    """``label`` is what staff see, ``public`` what the customer sees."""

    label: str
    public: str
    deadline: Deadline


STATES: Mapping[State, StateFacts] = {
    State.REPORTED: StateFacts("Reported", "Received", Deadline.RUNS),
    State.GUIDED: StateFacts("Phone guidance", "Self-check in progress", Deadline.RUNS),
    State.AWAITING_CONSENT: StateFacts("Awaiting consent", "Waiting for you to confirm the charge", Deadline.PAUSED),
    State.READY: StateFacts("Ready to dispatch", "Being scheduled", Deadline.RUNS),
    State.DISPATCHED: StateFacts("Dispatched", "Dispatched", Deadline.RUNS),
    State.ACCEPTED: StateFacts("Accepted", "Dispatched", Deadline.RUNS),
    State.ON_THE_WAY: StateFacts("On the way", "The technician is on the way", Deadline.RUNS),
    State.REPAIRING: StateFacts("Repairing", "Repairing", Deadline.RUNS),
    State.WAITING_PARTS: StateFacts("Waiting for parts", "Waiting for parts", Deadline.PAUSED),
    State.TESTING: StateFacts("Test run", "Test run", Deadline.RUNS),
    State.VERIFIED: StateFacts("Test run passed", "Test run passed, to be confirmed", Deadline.RUNS),
    State.CLOSED: StateFacts("Closed", "Done", Deadline.ENDED),
    State.SOLVED_BY_PHONE: StateFacts("Solved by phone", "Solved", Deadline.ENDED),
    State.CANCELLED: StateFacts("Cancelled", "Cancelled", Deadline.ENDED),
}
TERMINAL = frozenset(state for state, facts in STATES.items() if facts.deadline is Deadline.ENDED)
AT_THE_MACHINE = frozenset((State.REPAIRING, State.TESTING))
"""From repairing to the verdict: new findings of the machine join the ticket instead of opening another (architecture.md)."""


class Action(StrEnum):
    """What can be done to a ticket."""

    GUIDE = "guide"
    SOLVE_BY_PHONE = "solve_by_phone"
    VISIT_NEEDED = "visit_needed"
    ASK_CONSENT = "ask_consent"
    CONSENT = "consent"
    REFUSE = "refuse"
    ASSIGN = "assign"
    REASSIGN = "reassign"
    ACCEPT = "accept"
    DECLINE = "decline"
    EXPIRE = "expire"
    LEAVE = "leave"
    ARRIVE = "arrive"
    WAIT_FOR_PARTS = "wait_for_parts"
    PARTS_ARRIVED = "parts_arrived"
    FINISH_REPAIR = "finish_repair"
    VERDICT_PASSED = "verdict_passed"
    VERDICT_FAILED = "verdict_failed"
    VERDICT_INCONCLUSIVE = "verdict_inconclusive"
    EXTEND_TEST = "extend_test"
    BACK_TO_REPAIR = "back_to_repair"
    WAIVE = "waive"
    EXTEND_DEADLINE = "extend_deadline"
    CLOSE = "close"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the guards look at; plain values, read from the ticket inside the command's transaction."""

    kind: Kind = Kind.REPAIR
    repair_started: bool = False
    """True from the first arrival at the machine on: from then on only a verdict or a waiver ends the ticket."""
    passed_after_last_repair: bool = False
    waived_after_last_repair: bool = False
    telemetry_normal: bool = False
    """Telemetry was normal for ≥ 3 min within the last 10 min."""
    has_telemetry: bool = True
    deadline_extended: bool = False
    run_open: bool = False
    """A test run is still being measured."""
    has_machine: bool = True
    own_ticket: bool = True
    """The ticket is assigned to the one who acts; a technician may act on no other."""


Guard = Callable[[Facts], str | None]
"""None when it holds, otherwise the reason (gettext id) for the refusal."""


def _verified(facts: Facts) -> str | None:
    if facts.passed_after_last_repair or facts.waived_after_last_repair:
        return None
    return "Only a passed test run after the last repair, or a manager's waiver, can close this ticket"


def _untouched(facts: Facts) -> str | None:
    if facts.repair_started:
        return "The repair has begun: only a passed test run or a manager's waiver can end this ticket"
    return None


def _normal_again(facts: Facts) -> str | None:
    if facts.kind is Kind.CONSULTATION or not facts.has_telemetry or facts.telemetry_normal:
        return None
    return "The machine has not yet been normal for 3 minutes"


def _machine_known(facts: Facts) -> str | None:
    return None if facts.has_machine else "This ticket names no machine: only a ticket of a machine can have a visit"


def _not_yet_extended(facts: Facts) -> str | None:
    return "The deadline was extended to 48 hours already" if facts.deadline_extended else None


def _run_decided(facts: Facts) -> str | None:
    return "The test run is still being measured" if facts.run_open else None


@dataclass(frozen=True, slots=True)
class ActionFacts:
    """One action: its button, who may press it, from → to, what its form asks, and its guards.

    ``fields`` are required, ``optional`` may be left empty; ``later`` names guards of tickets.md whose data does not exist yet
    (photos, signatures, parts) and which are therefore not claimed to be checked.
    """

    label: str
    roles: frozenset[Role]
    moves: Mapping[State, State]
    fields: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = ()
    later: tuple[str, ...] = ()


def _moves(sources: Iterable[State], target: State | None = None) -> Mapping[State, State]:
    return {source: target or source for source in sources}


_S, _R = State, Role
RUNNING = tuple(s for s, facts in STATES.items() if facts.deadline is Deadline.RUNS)

ACTIONS: Mapping[Action, ActionFacts] = {
    Action.GUIDE: ActionFacts(
        "Guide by phone", frozenset((_R.OPERATOR, _R.SYSTEM)), _moves([_S.REPORTED], _S.GUIDED), optional=("note",)
    ),
    Action.SOLVE_BY_PHONE: ActionFacts(
        "Solved by phone", frozenset((_R.OPERATOR, _R.SYSTEM)), _moves([_S.GUIDED], _S.SOLVED_BY_PHONE),
        fields=("reason",), guards=(_untouched, _normal_again),
    ),
    Action.VISIT_NEEDED: ActionFacts(
        "A visit is needed", frozenset((_R.OPERATOR, _R.DISPATCHER, _R.SYSTEM)),
        _moves([_S.REPORTED, _S.GUIDED], _S.READY), optional=("note",), guards=(_machine_known,),
    ),
    Action.ASK_CONSENT: ActionFacts(
        "Ask for consent", frozenset((_R.OPERATOR,)),
        _moves([_S.REPORTED, _S.GUIDED, _S.READY], _S.AWAITING_CONSENT), fields=("estimate",),
        guards=(_machine_known,),
    ),
    Action.CONSENT: ActionFacts(
        "Customer consents", frozenset((_R.OPERATOR,)), _moves([_S.AWAITING_CONSENT], _S.READY),
        fields=("consent_by", "consent_how"),
    ),
    Action.REFUSE: ActionFacts(
        "Customer refuses", frozenset((_R.MANAGER,)), _moves([_S.AWAITING_CONSENT], _S.CANCELLED),
        fields=("reason",), guards=(_untouched,),
    ),
    Action.ASSIGN: ActionFacts(
        "Assign", frozenset((_R.DISPATCHER, _R.SYSTEM)), _moves([_S.READY], _S.DISPATCHED),
        fields=("assignee",), optional=("window_from", "window_to"),
    ),
    Action.REASSIGN: ActionFacts(
        "Reassign", frozenset((_R.DISPATCHER,)),
        _moves([_S.DISPATCHED, _S.ACCEPTED, _S.ON_THE_WAY, _S.WAITING_PARTS, _S.REPAIRING], _S.DISPATCHED),
        fields=("assignee", "reason"), optional=("window_from", "window_to"),
    ),
    Action.ACCEPT: ActionFacts("Accept", frozenset((_R.TECHNICIAN,)), _moves([_S.DISPATCHED], _S.ACCEPTED)),
    Action.DECLINE: ActionFacts(
        "Decline", frozenset((_R.TECHNICIAN,)), _moves([_S.DISPATCHED], _S.READY), fields=("reason",)
    ),
    Action.EXPIRE: ActionFacts("Not accepted in time", frozenset((_R.SYSTEM,)), _moves([_S.DISPATCHED], _S.READY)),
    Action.LEAVE: ActionFacts(
        "Leave for the site", frozenset((_R.TECHNICIAN,)), _moves([_S.ACCEPTED], _S.ON_THE_WAY), optional=("arrival_window",)
    ),
    Action.ARRIVE: ActionFacts(
        "Arrived", frozenset((_R.TECHNICIAN,)), _moves([_S.ACCEPTED, _S.ON_THE_WAY], _S.REPAIRING), optional=("place",)
    ),
    Action.WAIT_FOR_PARTS: ActionFacts(
        "Wait for parts", frozenset((_R.TECHNICIAN,)), _moves([_S.REPAIRING], _S.WAITING_PARTS),
        fields=("part", "promised_on"),
    ),
    Action.PARTS_ARRIVED: ActionFacts(
        "Parts arrived", frozenset((_R.PARTS_CLERK,)), _moves([_S.WAITING_PARTS], _S.DISPATCHED)
    ),
    Action.FINISH_REPAIR: ActionFacts(
        "Repair done, start the test run", frozenset((_R.TECHNICIAN,)), _moves([_S.REPAIRING], _S.TESTING),
        fields=("fault", "cause", "measure"), optional=("note", "target_l"),
    ),
    Action.VERDICT_PASSED: ActionFacts(
        "Test run passed", frozenset((_R.SYSTEM,)), _moves([_S.TESTING], _S.VERIFIED)
    ),
    Action.VERDICT_FAILED: ActionFacts(
        "Test run failed", frozenset((_R.SYSTEM,)), _moves([_S.TESTING], _S.REPAIRING)
    ),
    Action.VERDICT_INCONCLUSIVE: ActionFacts("Test run inconclusive", frozenset((_R.SYSTEM,)), _moves([_S.TESTING])),
    Action.EXTEND_TEST: ActionFacts(
        "Run the test again", frozenset((_R.TECHNICIAN, _R.DISPATCHER)), _moves([_S.TESTING]), guards=(_run_decided,)
    ),
    Action.BACK_TO_REPAIR: ActionFacts(
        "Back to repair", frozenset((_R.TECHNICIAN, _R.SYSTEM)), _moves([_S.TESTING, _S.VERIFIED], _S.REPAIRING),
        fields=("reason",),
    ),
    Action.WAIVE: ActionFacts(
        "Waive the test run", frozenset((_R.MANAGER,)), _moves([_S.TESTING, _S.REPAIRING], _S.VERIFIED),
        fields=("reason",), later=("photo",),
    ),
    Action.EXTEND_DEADLINE: ActionFacts(
        "Extend to 48 hours", frozenset((_R.DISPATCHER, _R.MANAGER)), _moves(RUNNING),
        fields=("reason",), guards=(_not_yet_extended,),
    ),
    Action.CLOSE: ActionFacts(
        "Close", frozenset((_R.TECHNICIAN, _R.DISPATCHER)), _moves([_S.VERIFIED], _S.CLOSED),
        guards=(_verified,), later=("photos", "signature", "parts_settled"),
    ),
    Action.CANCEL: ActionFacts(
        "Cancel", frozenset((_R.DISPATCHER, _R.MANAGER)),
        _moves(
            [_S.REPORTED, _S.GUIDED, _S.AWAITING_CONSENT, _S.READY, _S.DISPATCHED, _S.ACCEPTED], _S.CANCELLED
        ),
        fields=("reason",), guards=(_untouched,),
    ),
}  # fmt: skip

TRANSITIONS: Mapping[tuple[State, Action], State] = {
    (source, action): target for action, facts in ACTIONS.items() for source, target in facts.moves.items()
}
VOIDS_VERDICT = frozenset((Action.FINISH_REPAIR, Action.BACK_TO_REPAIR, Action.REASSIGN))
"""Actions after which an earlier verdict or waiver no longer counts."""


def next_state(state: State, action: Action) -> State:
    """The state after ``action``; raises IllegalTransitionError where the table has no such pair."""
    target = TRANSITIONS.get((state, action))
    if target is None:
        raise IllegalTransitionError(
            "A ticket that is '{state}' cannot '{action}'", state=STATES[state].label, action=ACTIONS[action].label
        )
    return target


def _may(action: Action, roles: frozenset[Role], facts: Facts) -> bool:
    allowed = roles & ACTIONS[action].roles
    return bool(allowed) and (facts.own_ticket or allowed != {Role.TECHNICIAN})


def check(state: State, action: Action, roles: frozenset[Role], facts: Facts) -> State:
    """The state after ``action`` by somebody with ``roles``.

    Raises IllegalTransitionError, ForbiddenError (no role of theirs may, or it is another technician's ticket), or RefusedError
    with the guard's reason.
    """
    target = next_state(state, action)
    rule = ACTIONS[action]
    if not _may(action, roles, facts):
        if roles & rule.roles:
            raise ForbiddenError("This ticket is not assigned to you")
        raise ForbiddenError("Your role may not '{action}'", action=rule.label)
    for guard in rule.guards:
        refusal = guard(facts)
        if refusal:
            raise RefusedError(refusal)
    return target


def permitted(state: State, roles: frozenset[Role], facts: Facts) -> tuple[Action, ...]:
    """The actions a person may take now, in table order: exactly those that :func:`check` would let through."""
    return tuple(
        action
        for action, rule in ACTIONS.items()
        if state in rule.moves and _may(action, roles, facts) and all(guard(facts) is None for guard in rule.guards)
    )
