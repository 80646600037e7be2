"""Any sequence of commands, by anybody: what must never come about does not (a Hypothesis state machine over the desk).

The oracle knows neither guards nor facts: it reads the journal and the rows, and tells from them alone what happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select

from domain.clock import to_ms
from domain.desk import evidence
from domain.desk.actor import SYSTEM
from domain.desk.intake import Call, open_from_call
from domain.desk.perform import HANDLERS, available
from domain.desk.verification import record_verdict
from domain.errors import ConflictError, RefusedError
from domain.findings import Finding, Kind, Severity
from domain.readings import Reading
from domain.store.queries import tickets as query
from domain.store.tables import FindingRow, Journal, TestRun, Ticket, VerdictRow
from domain.tickets import deadlines
from domain.tickets.states import ACTIONS, STATES, TERMINAL, TRANSITIONS, Action, Deadline, State
from domain.tickets.states import Kind as TicketKind
from domain.verdicts import Outcome, Verdict
from tests.desk_world import MACHINES, PEOPLE, World

PAUSED = {state for state, facts in STATES.items() if facts.deadline is Deadline.PAUSED}
SERIALS = [serial for serial, *_ in MACHINES]
FAMILIES = ("heating", "water", "fan")
ARRIVED = (
    ("operator", Action.VISIT_NEEDED), ("dispatcher", Action.ASSIGN), ("wang", Action.ACCEPT), ("wang", Action.ARRIVE),
)  # fmt: skip
PROVED = (("wang", Action.FINISH_REPAIR), ("brewair", Action.VERDICT_PASSED))
HANDED_ON = (("dispatcher", Action.REASSIGN), ("wang", Action.DECLINE), ("operator", Action.ASK_CONSENT))
WAYS = (
    (*ARRIVED, *PROVED, ("wang", Action.BACK_TO_REPAIR), *PROVED),
    (*ARRIVED, *HANDED_ON),
    (*ARRIVED, ("wang", Action.WAIT_FOR_PARTS), ("clerk", Action.PARTS_ARRIVED), ("wang", Action.DECLINE)),
)
"""Beginnings: the machine starts somewhere along one of these."""
BY_THE_ASSIGNEE = (
    Action.ACCEPT, Action.DECLINE, Action.LEAVE, Action.ARRIVE, Action.WAIT_FOR_PARTS, Action.FINISH_REPAIR,
    Action.BACK_TO_REPAIR,
)  # fmt: skip
FIELDS = ("assignee", "reason", "fault", "measure", "estimate")


class Desk(RuleBasedStateMachine):
    """Findings, calls, people, verdicts and time, in any order."""

    @initialize(way=st.sampled_from(WAYS).flatmap(lambda way: st.integers(0, len(way)).map(lambda depth: way[:depth])))
    def open_for_business(self, way: Sequence[tuple[str, Action]]) -> None:
        """One ticket has come some way already, so that the deep states are not rare."""
        self.world = World()
        self.findings: list[Finding] = []
        self.journal: list[tuple[object, ...]] = []
        self.sealed: dict[int, str] = {}
        finding, number = self.world.raised()
        self.findings.append(finding)
        for login, action in way:
            self.world.advance(minutes=1)
            if action is Action.VERDICT_PASSED:
                self._decide(self.world.runs(number)[0].id, Outcome.PASSED, probation=False)
            else:
                self.world.do(login, action, number)

    # ------------------------------------------------------------------------------------------- what may happen

    @rule(
        serial=st.sampled_from(SERIALS), family=st.sampled_from(FAMILIES), severity=st.sampled_from(Severity),
        kind=st.sampled_from(Kind), cause=st.integers(0, 9),
    )  # fmt: skip
    def a_finding_is_raised(self, serial: str, family: str, severity: Severity, kind: Kind, cause: int) -> None:
        self.world.advance(seconds=1)
        if cause == 9:
            finding = self.world.finding(serial, "connection", "R01", cause="network")
        else:
            finding = self.world.finding(serial, family, "R04", severity=severity, kind=kind)
        self.world.tell(finding)
        self.findings.append(finding)

    @rule(data=st.data())
    def a_finding_is_told_again(self, data: st.DataObject) -> None:
        assume(self.findings)
        finding = data.draw(st.sampled_from(self.findings))
        before = [(t.id, t.version, t.occurrences) for t in self.world.tickets()]
        self.world.tell(finding, finding)
        assert [(t.id, t.version, t.occurrences) for t in self.world.tickets()] == before

    @rule(data=st.data())
    def a_finding_clears(self, data: st.DataObject) -> None:
        assume(self.findings)
        self.world.clear(data.draw(st.sampled_from(self.findings)))

    @rule(
        serial=st.sampled_from([*SERIALS, ""]), kind=st.sampled_from(TicketKind), separate=st.booleans(),
        family=st.sampled_from(["", *FAMILIES]),
    )  # fmt: skip
    def somebody_calls(self, serial: str, kind: TicketKind, separate: bool, family: str) -> None:
        call = Call(kind, "不热了", "刘老板", "13800138000", serial, family, separate=separate)
        try:
            with self.world.command() as session:
                open_from_call(session, self.world.actors["operator"], call, self.world.now)
        except RefusedError:
            assert not serial

    @rule(data=st.data(), steps=st.integers(1, 8), stale=st.booleans())
    def somebody_works_on_a_ticket(self, data: st.DataObject, steps: int, stale: bool) -> None:
        open_ones = [t.id for t in self.world.tickets() if State(t.state) not in TERMINAL]
        assume(open_ones)
        number = data.draw(st.sampled_from(open_ones))
        for _ in range(steps):
            self.world.advance(seconds=1)
            permitted = self._permitted(number)
            if not permitted:
                return
            action = data.draw(st.sampled_from(list(permitted)))
            login = data.draw(st.sampled_from(permitted[action]))
            version = self.world.ticket(number).version
            form = {name: "" for name in FIELDS if data.draw(st.integers(0, 19)) == 19}
            if data.draw(st.integers(0, 3)) == 3:
                form["assignee"] = str(self.world.actors["foreman"].person_id)
            if stale:
                with pytest.raises(ConflictError):
                    self.world.do(login, action, number, version=version + 1)
            self._try(login, action, number, form, version=version)

    @rule(login=st.sampled_from([login for login, _ in PEOPLE]), action=st.sampled_from(Action), data=st.data())
    def somebody_tries_anything(self, login: str, action: Action, data: st.DataObject) -> None:
        tickets = self.world.tickets()
        assume(tickets)
        number = data.draw(st.sampled_from(tickets)).id
        with self.world.read() as session:
            ticket = query.ticket(session, number)
            may = action in available(session, self.world.actors[login], ticket, self.world.now)
        assert self._try(login, action, number, {}) == may, "what is offered is done, and nothing else"

    @rule(outcome=st.sampled_from((Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE)), data=st.data())
    def the_judge_decides(self, outcome: Outcome, data: st.DataObject) -> None:
        """On any run at all: also one that was decided or voided long ago."""
        with self.world.read() as session:
            runs = session.scalars(select(TestRun).order_by(TestRun.id)).all()
        assume(runs)
        measured = [run.id for run in runs if run.outcome == Outcome.PENDING]
        among = measured if measured and data.draw(st.integers(0, 3)) else [run.id for run in runs]
        self._decide(data.draw(st.sampled_from(among)), outcome, probation=data.draw(st.booleans()))

    def _decide(self, run_id: int, outcome: Outcome, *, probation: bool) -> None:
        verdict = Verdict(outcome, to_ms(self.world.now), 900.0, 900.0, 1.0, (), ("because",), probation=probation)
        with self.world.command() as session:
            record_verdict(session, query.run(session, run_id), verdict, self.world.now)

    @rule(serial=st.sampled_from(SERIALS), count=st.integers(1, 3))
    def samples_come(self, serial: str, count: int) -> None:
        readings = []
        for _ in range(count):
            at = to_ms(self.world.advance(seconds=5))
            readings.append(Reading(serial, "soymilk", at, {"power_w": 8.0}, boot="b", seq=at // 1000, recv_ms=at))
        self.world.feed(readings)
        self.world.feed(readings)
        self.world.seen(serial)

    @rule(minutes=st.sampled_from((0, 1, 4, 31, 100, 600, 1500)))
    def time_passes(self, minutes: int) -> None:
        self.world.tick(minutes=minutes)

    def _try(self, login: str, action: Action, number: int, form: dict[str, str], version: int | None = None) -> bool:
        try:
            self.world.do(login, action, number, version=version, **form)
        except RefusedError:
            return False
        return True

    def _permitted(self, number: int) -> dict[Action, list[str]]:
        found: dict[Action, list[str]] = {}
        with self.world.read() as session:
            ticket = query.ticket(session, number)
            for login, actor in self.world.actors.items():
                for action in available(session, actor, ticket, self.world.now):
                    found.setdefault(action, []).append(login)
        return found

    # --------------------------------------------------------------------------------------- what must always hold

    @invariant()
    def nothing_came_about_that_must_not(self) -> None:
        with self.world.read() as session:
            tickets = {ticket.id: ticket for ticket in session.scalars(select(Ticket))}
            journal = session.scalars(select(Journal).order_by(Journal.id)).all()
            runs = session.scalars(select(TestRun)).all()
            self._sealed_evidence_stays_as_it_was(list(session.scalars(select(VerdictRow))))
            lasting = session.scalars(select(FindingRow).where(FindingRow.cleared_at_ms.is_(None))).all()
        self._the_journal_only_grows(journal)
        _one_open_ticket_of_a_machine_and_family(tickets.values())
        _what_lasts_is_in_somebodys_hands(lasting, tickets)
        for ticket in tickets.values():
            _the_story_is_right(
                ticket,
                [row for row in journal if row.ticket_id == ticket.id],
                [run for run in runs if run.ticket_id == ticket.id],
                self.world.now,
            )

    def _the_journal_only_grows(self, rows: Sequence[Journal]) -> None:
        now = [(r.id, r.at, r.ticket_id, r.actor_name, r.action, r.from_state, r.to_state, r.reason) for r in rows]
        assert now[: len(self.journal)] == self.journal
        self.journal = now

    def _sealed_evidence_stays_as_it_was(self, rows: Sequence[VerdictRow]) -> None:
        for row in rows:
            assert evidence.intact(row)
            said = f"{row.outcome} {row.evidence_sha256} {row.body}"
            assert self.sealed.setdefault(row.run_id, said) == said
        assert len(rows) == len(self.sealed)


def _one_open_ticket_of_a_machine_and_family(tickets: Iterable[Ticket]) -> None:
    open_ones = Counter((t.serial, t.family) for t in tickets if t.serial and State(t.state) not in TERMINAL)
    assert max(open_ones.values(), default=0) <= 1


def _what_lasts_is_in_somebodys_hands(lasting: Iterable[FindingRow], tickets: Mapping[int, Ticket]) -> None:
    """A ticket that its verdict closed leaves no finding behind; a waiver keeps them until the rules are armed again."""
    for row in lasting:
        if row.cause != "network":
            ticket = tickets[row.ticket_id or 0]
            assert ticket.state != State.CLOSED or ticket.rearm_at is not None, row.episode_key


def _the_story_is_right(ticket: Ticket, rows: list[Journal], runs: list[TestRun], now: datetime) -> None:
    state, since, paused, extended = State.REPORTED, ticket.opened_at, timedelta(0), 0
    touched, proved, assignee = False, False, ""
    assert rows[0].action.startswith("open_from_")
    assert rows[0].to_state == State.REPORTED
    for row in rows[1:]:
        if not row.to_state:
            continue
        action, before, after = Action(row.action), State(row.from_state), State(row.to_state)
        assert before is state
        assert TRANSITIONS[before, action] is after
        if before in PAUSED:
            paused += row.at - since
        state, since = after, row.at
        extended += action is Action.EXTEND_DEADLINE
        if action in (Action.ASSIGN, Action.REASSIGN):
            assignee = row.detail["assignee"]
        if action in BY_THE_ASSIGNEE:
            assert row.actor_name == assignee, "somebody else's ticket"
        # The story as tickets.md tells it: a repair action voids all proof; only a verdict or a waiver is proof.
        if action in (Action.ARRIVE, Action.FINISH_REPAIR, Action.BACK_TO_REPAIR, Action.REASSIGN):
            proved = False
        touched |= action is Action.ARRIVE
        if action is Action.WAIVE:
            assert row.reason
            proved = True
        proved |= action is Action.VERDICT_PASSED
        if action is Action.CLOSE:
            assert proved, "closed without proof"
        if after in (State.CANCELLED, State.SOLVED_BY_PHONE):
            assert not touched, "a repair that had begun ended without proof"
    assert ticket.state == state
    assert (ticket.ended_at is not None) == (state in TERMINAL)
    if state is State.CLOSED:
        whole = [run for run in runs if run.voided_at is None and run.outcome == Outcome.PASSED]
        assert ticket.waived_at is not None or whole, "closed, and no verdict stands"
    ended = ticket.ended_at or now
    if state in PAUSED:
        paused += ended - since
    counted = timedelta(seconds=ticket.paused_s) + (ended - ticket.paused_at if ticket.paused_at else timedelta(0))
    assert counted == paused
    allowed = deadlines.STANDARD + extended * (deadlines.EXTENDED - deadlines.STANDARD)
    assert extended <= 1
    assert ticket.due_at == ticket.opened_at + allowed + timedelta(seconds=ticket.paused_s)
    seen = deadlines.view(ticket.due_at, paused_at=ticket.paused_at, ended_at=ticket.ended_at, now=now)
    assert allowed - seen.remaining + paused == ended - ticket.opened_at, "running and paused time make up the wall's"
    measured = [run for run in runs if run.outcome == Outcome.PENDING]
    assert len(measured) <= 1
    assert not measured or (state is State.TESTING and measured[0].voided_at is None)
    assert state is not State.TESTING or any(run.voided_at is None for run in runs)


Desk.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestDesk = Desk.TestCase


def test_every_action_is_taken_by_somebody() -> None:
    """The machine above can reach them all: handlers by people, the rest by brewair."""
    by_people = {action for action, facts in ACTIONS.items() if facts.roles - {SYSTEM_ROLE}}
    assert by_people == set(HANDLERS)


SYSTEM_ROLE = next(iter(SYSTEM.roles))
