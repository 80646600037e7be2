"""The demo's story: a heater element fails, the first repair is incomplete, the second one holds.

The director plays whoever is missing: it takes the next step of a ticket only when nobody else did for a while, so that a
newcomer can take over at any step. The physical deed follows the ticket: whoever records the first repair, it was incomplete;
the second is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from device_sim.fleet import Fleet
from device_sim.machine import Publication
from device_sim.profiles.soymilk import Soymilk
from domain.clock import to_ms
from domain.desk import dispatch
from domain.desk.actor import Actor, actor_of
from domain.desk.perform import perform
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.session import Sessions
from domain.store.tables import Ticket
from domain.tickets.states import Action, Role, State

FAULT = "heater_element_open"
FAMILY = "heating"
REPAIR_FORM = {"fault": "S-T1", "cause": "element_open", "measure": "replace_element", "note": ""}


@dataclass(frozen=True, slots=True)
class Move:
    """What the director does with a ticket that has been in a state for ``patience`` of business time."""

    action: Action
    role: Role
    patience: timedelta


MOVES: Mapping[State, Move] = {
    State.READY: Move(Action.ASSIGN, Role.DISPATCHER, timedelta(minutes=3)),
    State.DISPATCHED: Move(Action.ACCEPT, Role.TECHNICIAN, timedelta(minutes=2)),
    State.ACCEPTED: Move(Action.LEAVE, Role.TECHNICIAN, timedelta(minutes=2)),
    State.ON_THE_WAY: Move(Action.ARRIVE, Role.TECHNICIAN, timedelta(minutes=8)),
    State.REPAIRING: Move(Action.FINISH_REPAIR, Role.TECHNICIAN, timedelta(minutes=8)),
    State.VERIFIED: Move(Action.CLOSE, Role.TECHNICIAN, timedelta(minutes=2)),
}

STEPS: tuple[tuple[str, str], ...] = (
    ("fault", "A heater element opens"),
    ("ticket", "brewair finds it and opens a ticket"),
    ("proposal", "Technicians are ranked, with reasons"),
    ("assign", "The dispatcher assigns"),
    ("accept", "The technician accepts"),
    ("leave", "… leaves"),
    ("arrive", "… arrives"),
    ("first_repair", "First repair recorded: one element was forgotten"),
    ("failed", "The test run FAILS: the machine says no"),
    ("second_repair", "Second repair recorded"),
    ("passed", "The 15-minute test run PASSES"),
    ("closed", "The ticket is closed"),
)


@dataclass
class Director:
    """Plays the story on ``serial``; ``reached`` holds the business time of each step that has happened."""

    sessions: Sessions
    fleet: Fleet
    serial: str
    fault_after: datetime
    said: Callable[[datetime, str, str], None] = lambda now, key, line: None
    reached: dict[str, datetime] = field(default_factory=dict)
    ticket_id: int | None = None
    mended: int = 0

    def step(self, now: datetime) -> list[Publication]:
        """Look, and do what is due at ``now``; gives what the machine publishes because of it."""
        if "fault" not in self.reached:
            return self._break(now)
        with self.sessions.read() as session:
            ticket = self._ticket(session_tickets=query.tickets_of_machine(session, self.serial))
            if ticket is None:
                return []
            self.ticket_id = ticket.id
            journal = query.timeline(session, ticket.id)
            self._tell(journal_actions=[(row.at, row.action) for row in journal])
            runs = len(query.runs(session, ticket.id))
            entered = max((row.at for row in journal if row.to_state == ticket.state), default=now)
        published = self._mend(now) if runs > self.mended else []
        move = MOVES.get(State(ticket.state))
        if move is not None and now - entered >= move.patience:
            published += self._move(ticket, move, now)
        return published

    @property
    def done(self) -> bool:
        """Whether every step has happened."""
        return all(key in self.reached for key, _ in STEPS)

    def _ticket(self, session_tickets: list[Ticket]) -> Ticket | None:
        if self.ticket_id is not None:
            return next(ticket for ticket in session_tickets if ticket.id == self.ticket_id)
        return next((ticket for ticket in session_tickets if ticket.family == FAMILY), None)

    def _break(self, now: datetime) -> list[Publication]:
        """The element opens while the machine heats, so that it shows at once."""
        machine = self.fleet.machine(self.serial)
        heating = isinstance(machine.physics, Soymilk) and machine.physics.state == "heating"
        if now < self.fault_after or not heating:
            return []
        self._reach("fault", now)
        return self.fleet.inflict(self.serial, FAULT, to_ms(now))

    def _mend(self, now: datetime) -> list[Publication]:
        self.mended += 1
        return self.fleet.mend(self.serial, FAULT, to_ms(now), complete=self.mended > 1)

    def _move(self, ticket: Ticket, move: Move, now: datetime) -> list[Publication]:
        with self.sessions.command() as session:
            ticket = query.ticket(session, ticket.id)
            form: Mapping[str, str] = {}
            if move.action is Action.ASSIGN:
                proposals = dispatch.propose(session, ticket)
                if proposals:
                    self._reach("proposal", now, ", ".join(f"{p.candidate.name} {p.score:+d}" for p in proposals))
                form = {"assignee": str(proposals[0].candidate.person_id)}
            elif move.action is Action.FINISH_REPAIR:
                form = REPAIR_FORM
            perform(session, self._actor(session, ticket, move.role), ticket.id, move.action, form, now)
        if move.action is Action.ARRIVE:
            return self.fleet.machine(self.serial).touch(to_ms(now), lambda physics: physics.stop())
        return []

    def _actor(self, session: Session, ticket: Ticket, role: Role) -> Actor:
        if role is Role.TECHNICIAN and ticket.assignee is not None:
            return actor_of(ticket.assignee)
        return actor_of(registry.people(session, role=role, active_only=True)[0])

    def _tell(self, journal_actions: list[tuple[datetime, str]]) -> None:
        repairs = 0
        for at, action in journal_actions:
            key = JOURNAL_STEP.get(action)
            if action == Action.FINISH_REPAIR:
                repairs += 1
                key = "first_repair" if repairs == 1 else "second_repair"
            if key is not None and key not in self.reached:
                self._reach(key, at)

    def _reach(self, key: str, at: datetime, detail: str = "") -> None:
        if key not in self.reached:
            self.reached[key] = at
            line = dict(STEPS)[key]
            self.said(at, key, f"{line}: {detail}" if detail else line)


JOURNAL_STEP: Mapping[str, str] = {
    "open_from_finding": "ticket",
    Action.ASSIGN: "assign",
    Action.ACCEPT: "accept",
    Action.LEAVE: "leave",
    Action.ARRIVE: "arrive",
    Action.VERDICT_FAILED: "failed",
    Action.VERDICT_PASSED: "passed",
    Action.CLOSE: "closed",
}
