"""The actions on a ticket as forms: what the state table permits becomes buttons and fields, and what they send is carried out.

Everything is made from ``domain.tickets.states``: an action that is permitted has a form, one whose guard does not hold shows
why. A form carries the version of the ticket that its reader saw, so that a stale page is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import reduce

from sqlalchemy.orm import Session

from domain.catalogue.plans import CAUSES, FAMILY_PLAN, FAULTS, MEASURES, PLANS, Code
from domain.desk.actor import Actor
from domain.desk.dispatch import propose
from domain.desk.door import facts_of
from domain.desk.guidance import telemetry_normal
from domain.desk.perform import HANDLERS, perform
from domain.errors import ConflictError, IllegalTransitionError, InvalidError, RefusedError
from domain.store.queries import service
from domain.store.tables import Journal, Ticket
from domain.tickets.assignment import Proposal
from domain.tickets.states import ACTIONS, Action, Facts, State
from portal.deps import refused_form
from portal.language import Message, _
from portal.names import name_in
from portal.render import Form


class Weight(StrEnum):
    """How an action is shown."""

    PRIMARY = "primary"
    PLAIN = "plain"
    GRAVE = "grave"


FORWARD = (
    Action.ACCEPT, Action.LEAVE, Action.ARRIVE, Action.FINISH_REPAIR, Action.CLOSE, Action.EXTEND_TEST, Action.ASSIGN,
    Action.CONSENT, Action.PARTS_ARRIVED, Action.SOLVE_BY_PHONE, Action.GUIDE, Action.VISIT_NEEDED,
)  # fmt: skip
"""The way on, in this order: the first of these that is permitted is the page's one primary action."""
GRAVE: Mapping[Action, str] = {
    Action.CANCEL: _("The ticket ends here and cannot be opened again."),
    Action.REFUSE: _("The ticket ends here and cannot be opened again."),
    Action.WAIVE: _(
        "The ticket will count as repaired although no test run has proved it. Your name and reason are kept."
    ),
    Action.BACK_TO_REPAIR: _("The verdicts given so far no longer count; a new test run will be needed."),
}
"""Actions that destroy something: apart, and only with a tick under what they do."""
CONFIRM = "confirm"
TRAINED = "Trained for this equipment type"
"""A reason that everybody in a ranking has."""


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """How a field of the state table is asked for. ``options`` are fixed choices, stored and shown as message ids."""

    label: str
    kind: str = "text"
    hint: str = ""
    options: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


FIELDS: Mapping[str, FieldFacts] = {
    "reason": FieldFacts(_("Reason"), "textarea"),
    "note": FieldFacts(_("Note"), "textarea"),
    "estimate": FieldFacts(_("Estimate told to the customer (CNY)"), attributes={"inputmode": "decimal"}),
    "consent_by": FieldFacts(_("Who consented")),
    "consent_how": FieldFacts(_("How"), "choice", options=(_("By phone"), _("In writing"), _("On site"))),
    "assignee": FieldFacts(_("Technician"), "select"),
    "window_from": FieldFacts(_("Visit from"), "datetime-local"),
    "window_to": FieldFacts(_("Visit until"), "datetime-local"),
    "arrival_window": FieldFacts(
        _("Arrival told to the customer"), "choice",
        options=(_("within 30 minutes"), _("within 1 hour"), _("within 2 hours"), _("later today")),
    ),
    "place": FieldFacts(_("Where in the building"), attributes={"autocomplete": "off"}),
    "part": FieldFacts(_("Missing part")),
    "promised_on": FieldFacts(_("Promised for"), "date"),
    "fault": FieldFacts(_("Fault"), "select"),
    "cause": FieldFacts(_("Cause"), "select"),
    "measure": FieldFacts(_("Measure"), "select"),
    "target_l": FieldFacts(
        _("Batch of the test run (L)"), "number", _("Only if the machine does not report it itself"),
        attributes={"inputmode": "decimal", "step": "0.1", "min": "0.1", "max": "500"},
    ),
}  # fmt: skip
ONLY_FOR: Mapping[str, str] = {"target_l": "soymilk"}
"""Fields that only one equipment type has."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One option of a select: ``text`` in the reader's language or a message id; ``note`` stands behind it."""

    value: str
    text: str
    note: Message | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class ActionField:
    """One field of an action's form."""

    name: str
    facts: FieldFacts
    required: bool
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionForm:
    """One action that the reader may take now."""

    action: str
    label: str
    weight: Weight
    fields: tuple[ActionField, ...]
    form: Form
    warning: str = ""
    open: bool = False

    @property
    def bare(self) -> bool:
        """Nothing to type: the button alone."""
        return not self.fields and not self.warning

    @property
    def light(self) -> bool:
        """Nothing that must be typed."""
        return not self.warning and not any(entry.required for entry in self.fields)


@dataclass(frozen=True, slots=True)
class Blocked:
    """An action that the role has here and a guard holds back: its name and why."""

    action: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class Actions:
    """All actions of one reader on one ticket, by weight; ``version`` goes with each form."""

    ticket_id: int
    version: int
    primary: ActionForm | None
    plain: tuple[ActionForm, ...]
    grave: tuple[ActionForm, ...]
    blocked: tuple[Blocked, ...]

    @property
    def every(self) -> tuple[ActionForm, ...]:
        """All of them, the primary one first."""
        return (*((self.primary,) if self.primary else ()), *self.plain, *self.grave)


@dataclass(frozen=True, slots=True)
class Refused:
    """A form that came back: which action, as typed, with what was wrong."""

    action: str
    form: Form


def actions_of(
    session: Session, ticket: Ticket, actor: Actor, now: datetime, locale: str, sent_back: Refused | None = None
) -> Actions:
    """What this reader may do to the ticket now, in forms."""
    state, facts = State(ticket.state), facts_of(
        session, ticket, telemetry_normal=telemetry_normal(session, ticket, now)
    )  # fmt: skip
    forms, blocked = [], []
    forward = _forward(state, actor, facts)
    for action, rule in ACTIONS.items():
        if action not in HANDLERS or state not in rule.moves or not actor.roles & rule.roles:
            continue
        refusal = next((reason for guard in rule.guards if (reason := guard(facts))), None)
        if refusal is not None:
            blocked.append(Blocked(action.value, rule.label, refusal))
            continue
        weight = Weight.GRAVE if action in GRAVE else Weight.PRIMARY if action is forward else Weight.PLAIN
        mine = sent_back if sent_back and sent_back.action == action else None
        fields = fields_of(session, ticket, action, locale)
        forms.append(
            ActionForm(
                action=action.value,
                label=rule.label,
                weight=weight,
                fields=fields,
                form=mine.form if mine else _fresh(fields),
                warning=GRAVE.get(action, ""),
                open=mine is not None,
            )
        )
    return Actions(
        ticket_id=ticket.id,
        version=ticket.version,
        primary=next((form for form in forms if form.weight is Weight.PRIMARY), None),
        plain=tuple(form for form in forms if form.weight is Weight.PLAIN),
        grave=tuple(form for form in forms if form.weight is Weight.GRAVE),
        blocked=tuple(blocked),
    )


def _fresh(fields: tuple[ActionField, ...]) -> Form:
    # The best of a ranking is chosen already, so that one click assigns; who replaces somebody is for a person to decide.
    ranked = next((entry.choices for entry in fields if entry.name == "assignee" and entry.choices), ())
    replaces = any(entry.name == "reason" for entry in fields)
    return Form.blank(assignee=ranked[0].value) if ranked and not replaces else Form.blank()


def _forward(state: State, actor: Actor, facts: Facts) -> Action | None:
    open_to = {
        action
        for action in FORWARD
        if state in ACTIONS[action].moves
        and actor.roles & ACTIONS[action].roles
        and all(guard(facts) is None for guard in ACTIONS[action].guards)
    }
    return next((action for action in FORWARD if action in open_to), None)


def fields_of(session: Session, ticket: Ticket, action: Action, locale: str) -> tuple[ActionField, ...]:
    """The fields of an action with their choices, as the state table and the machine's type say."""
    rule, equipment_type = ACTIONS[action], ticket.equipment.type if ticket.equipment else ""
    return tuple(
        ActionField(name, FIELDS[name], name in rule.fields, choices_of(session, ticket, name, locale))
        for name in (*rule.fields, *rule.optional)
        if ONLY_FOR.get(name, equipment_type) == equipment_type
    )


def choices_of(session: Session, ticket: Ticket, name: str, locale: str) -> tuple[Choice, ...]:
    """What a select offers: codes of the machine's type, ranked technicians, or the table's own options."""
    if name == "assignee":
        return tuple(candidate_choice(proposal) for proposal in propose(session, ticket))
    if name in CODES:
        return code_choices(name, ticket.equipment.type if ticket.equipment else "", ticket.family, locale)
    return tuple(Choice(option, option) for option in FIELDS[name].options)


CODES: Mapping[str, Mapping[str, Code]] = {"fault": FAULTS, "cause": CAUSES, "measure": MEASURES}


def code_choices(name: str, equipment_type: str, family: str, locale: str) -> tuple[Choice, ...]:
    """The codes of one equipment type; measures grouped by the test run that proves them, the family's own group first."""
    usual = FAMILY_PLAN.get((equipment_type, family), "")
    codes = [code for code in CODES[name].values() if code.type in ("", equipment_type)]
    return tuple(
        Choice(code.key, name_in(code, locale), group=name_in(PLANS[code.plan], locale) if code.plan else "")
        for code in sorted(codes, key=lambda code: code.plan != usual)
    )


def candidate_choice(proposal: Proposal) -> Choice:
    """A ranked technician as an option, with what speaks for and against behind the name."""
    said = [Message(reason.message_id, **reason.params) for reason in proposal.reasons if reason.message_id != TRAINED]
    note = reduce(lambda first, second: Message(_("{first}, {second}"), first=first, second=second), said)
    return Choice(str(proposal.candidate.person_id), proposal.candidate.name, note)


def take(
    session: Session,
    actor: Actor,
    ticket: Ticket,
    action: Action,
    typed: Mapping[str, str],
    now: datetime,
    with_zone: Callable[[str], str],
) -> bool:
    """Carry out an action as typed; ``with_zone`` completes times typed without one.

    False where the same person had sent this very form before: nothing more happens.
    Raises RefusedError of the kind that fits, ConflictError also for a form without a version.
    """
    values = {name: typed.get(name, "").strip() for name in (*ACTIONS[action].fields, *ACTIONS[action].optional)}
    version = typed.get("version", "")
    if not version.isdigit():
        raise ConflictError("This form is out of date; load the page again and repeat")
    if action in GRAVE and not typed.get(CONFIRM):
        raise InvalidError("Please tick that you understand what this does", field=CONFIRM)
    sent = {
        name: with_zone(value) if FIELDS[name].kind == "datetime-local" else value for name, value in values.items()
    }
    try:
        perform(session, actor, ticket.id, action, sent, now, version=int(version))
    except (ConflictError, IllegalTransitionError):
        if int(version) < ticket.version and _said_before(session, actor, ticket, action, sent.values()):
            return False
        raise
    return True


def refused(action: Action, error: RefusedError, typed: Mapping[str, str]) -> Refused:
    """The form of a refused action as typed, with what was wrong beside its field, also one that was not sent at all."""
    rule = ACTIONS[action]
    return Refused(
        action.value, refused_form(error, {**dict.fromkeys((*rule.fields, *rule.optional, CONFIRM), ""), **typed})
    )


def _said_before(session: Session, actor: Actor, ticket: Ticket, action: Action, sent: Iterable[str]) -> bool:
    last: Journal | None = service.last_by_a_person(session, ticket.id)
    if last is None or last.actor_id != actor.person_id or last.action != action.value:
        return False
    said = {"", last.reason, str(ticket.assignee_id), *(str(value) for value in last.detail.values())}
    windows = {moment.isoformat() for moment in (ticket.window_from, ticket.window_to) if moment}
    return {_comparable(value) for value in sent} <= said | windows


def _comparable(value: str) -> str:
    # A time was stored as UTC; the form said it in the reader's zone.
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return moment.astimezone(UTC).isoformat() if moment.tzinfo else value


DONE: Mapping[Action, str] = {
    Action.GUIDE: _("The machine is being watched while you guide the customer"),
    Action.SOLVE_BY_PHONE: _("Solved by phone"),
    Action.VISIT_NEEDED: _("Handed over to dispatch"),
    Action.ASK_CONSENT: _("Waiting for the customer's consent; the clock stands still"),
    Action.CONSENT: _("Consent recorded"),
    Action.REFUSE: _("Ended: the customer refused"),
    Action.ASSIGN: _("Assigned"),
    Action.REASSIGN: _("Reassigned"),
    Action.ACCEPT: _("Accepted"),
    Action.DECLINE: _("Declined; the dispatcher has been told"),
    Action.LEAVE: _("Have a safe journey"),
    Action.ARRIVE: _("Arrival recorded"),
    Action.WAIT_FOR_PARTS: _("Waiting for parts; the clock stands still"),
    Action.PARTS_ARRIVED: _("Parts are here; the job can go on"),
    Action.FINISH_REPAIR: _("Repair recorded; the test run has begun"),
    Action.EXTEND_TEST: _("A new test run has begun"),
    Action.BACK_TO_REPAIR: _("Back to repair"),
    Action.WAIVE: _("Test run waived"),
    Action.EXTEND_DEADLINE: _("Deadline extended to 48 hours"),
    Action.CLOSE: _("Closed. Well done"),
    Action.CANCEL: _("Cancelled"),
}
"""What the toast says afterwards."""
