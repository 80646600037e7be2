"""Dispatch, the visit, the test run, the end; and what time alone brings about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from domain.clock import to_ms
from domain.desk import evidence
from domain.desk.dispatch import propose
from domain.desk.intake import Call, open_from_call
from domain.desk.perform import perform
from domain.desk.verification import append_samples, enter, judge_run, record_verdict
from domain.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, RefusedError
from domain.findings import Severity
from domain.readings import Reading
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import DeviceCommand, Equipment, EvidenceSample, Repair, Ticket
from domain.tickets.states import Action, Kind, Role, State
from domain.verdicts import Outcome, Verdict
from tests.desk_world import World, moved
from tests.service_site import healthy, one_element_lost
from tests.unit.desk.test_intake import call, notices


@pytest.fixture
def world() -> World:
    """Two sites, three machines, seven people."""
    return World()


@pytest.fixture
def number(world: World) -> int:
    """A ticket with a technician at its machine."""
    _, number = world.raised()
    world.at_the_machine(number)
    return number


def decide(world: World, number: int, outcome: Outcome, *, probation: bool = False) -> None:
    """The judge's word on the latest run."""
    verdict = Verdict(outcome, to_ms(world.now), 900.0, 900.0, 1.0, (), ("because",), probation=probation)
    with world.command() as session:
        record_verdict(session, query.runs(session, number)[0], verdict, world.now)


def commands(world: World) -> list[DeviceCommand]:
    """What the machines were told, oldest first."""
    with world.read() as session:
        return list(
            session.scalars(select(DeviceCommand).order_by(DeviceCommand.created_at, DeviceCommand.expires_at.desc()))
        )


# ------------------------------------------------------------------------------------------------------------ dispatch


def test_the_ranking_weighs_skill_region_load_and_acquaintance(world: World) -> None:
    with world.command() as session:
        for person in registry.people(session, role=Role.TECHNICIAN):
            if person.login == "li":
                person.region = "城西"
            if person.login == "foreman":
                person.skills = ["freshair"]
    _, first = world.raised()
    with world.read() as session:
        names = [proposal.candidate.name for proposal in propose(session, query.ticket(session, first))]
    assert names == ["wang", "li"]
    for serial in ("SMM-2", "FAU-1"):
        _, number = world.raised(serial=serial)
        world.do("operator", Action.VISIT_NEEDED, number)
        world.do("dispatcher", Action.ASSIGN, number)
    with world.read() as session:
        proposals = propose(session, query.ticket(session, first))
    assert [(p.candidate.name, p.candidate.open_tickets) for p in proposals] == [("wang", 2), ("li", 0)]
    assert [p.score for p in proposals] == [30 - 24, 0]
    _, third = world.raised(serial="FAU-1", family="fan", rule="R15")
    world.do("operator", Action.VISIT_NEEDED, third)
    world.do("dispatcher", Action.ASSIGN, third)
    with world.read() as session:
        assert propose(session, query.ticket(session, first))[0].candidate.name == "li"


def test_only_a_trained_technician_on_duty_who_is_free_then_is_assigned(world: World) -> None:
    _, number = world.raised()
    _, other = world.raised(serial="SMM-2")
    for each in (number, other):
        world.do("operator", Action.VISIT_NEEDED, each)
    for who, why in (("manager", "technician on duty"), ("li", "not trained")):
        with world.command() as session:
            if who == "li":
                registry.person(session, world.actors["li"].person_id or 0).skills = ["freshair"]
        with pytest.raises(InvalidError, match=why):
            world.do("dispatcher", Action.ASSIGN, number, assignee=str(world.actors[who].person_id))
    with pytest.raises(NotFoundError):
        world.do("dispatcher", Action.ASSIGN, number, assignee="999")
    begin = world.now + timedelta(hours=2)

    def window(start: float, end: float) -> dict[str, str]:
        return {
            "window_from": (begin + timedelta(hours=start)).isoformat(),
            "window_to": (begin + timedelta(hours=end)).isoformat(),
        }

    with pytest.raises(InvalidError, match="end after it begins"):
        world.do("dispatcher", Action.ASSIGN, number, **window(1, 0))
    with pytest.raises(InvalidError, match="zone"):
        world.do("dispatcher", Action.ASSIGN, number, window_from="2026-03-02T10:00")
    world.do("dispatcher", Action.ASSIGN, number, **window(0, 1))
    for clash in (window(0.5, 2), window(-1, 0.5), window(-1, 3)):
        with pytest.raises(InvalidError, match="another visit"):
            world.do("dispatcher", Action.ASSIGN, other, **clash)
    world.do("dispatcher", Action.ASSIGN, other, **window(1, 2))
    world.do("dispatcher", Action.REASSIGN, number, **window(0.25, 1))


def test_nobody_acts_on_anothers_ticket_and_a_foreman_only_as_dispatcher(world: World) -> None:
    _, number = world.raised()
    world.do("operator", Action.VISIT_NEEDED, number)
    world.do("foreman", Action.ASSIGN, number)
    for stranger in ("li", "foreman"):
        with pytest.raises(ForbiddenError, match="not assigned to you"):
            world.do(stranger, Action.ACCEPT, number)
    world.do("foreman", Action.REASSIGN, number, assignee=str(world.actors["foreman"].person_id))
    world.do("foreman", Action.ACCEPT, number)
    with pytest.raises(ForbiddenError):
        world.do("wang", Action.ARRIVE, number)


def test_declining_and_not_accepting_go_back_to_dispatch(world: World) -> None:
    _, number = world.raised()
    world.do("operator", Action.VISIT_NEEDED, number)
    world.do("dispatcher", Action.ASSIGN, number)
    world.do("wang", Action.DECLINE, number)
    ticket = world.ticket(number)
    assert (ticket.state, ticket.assignee_id) == (State.READY, None)
    world.do("dispatcher", Action.ASSIGN, number)
    world.tick(minutes=29)
    assert world.ticket(number).state == State.DISPATCHED
    world.tick(minutes=2)
    ticket = world.ticket(number)
    assert (ticket.state, ticket.assignee_id, ticket.dispatched_at) == (State.READY, None, None)
    for role in (Role.DISPATCHER, Role.MANAGER):
        assert notices(world, role)[-1].message_id == "{name} did not accept {serial} in time"


def test_a_person_cannot_do_what_only_brewair_does(world: World, number: int) -> None:
    for action in (Action.EXPIRE, Action.VERDICT_PASSED, Action.VERDICT_FAILED, Action.VERDICT_INCONCLUSIVE):
        with pytest.raises(ForbiddenError), world.command() as session:
            perform(session, world.actors["manager"], number, action, {}, world.now)


# ---------------------------------------------------------------------------------------------------------- the visit


def test_findings_during_the_visit_belong_to_it_and_safety_still_alarms(world: World, number: int) -> None:
    _, joined = world.raised(family="motor", rule="R14")
    _, alarmed = world.raised(family="water", rule="R08", severity=Severity.P1)
    assert (joined, alarmed) == (number, number)
    assert notices(world, Role.DISPATCHER)[-1].message_id == "Safety: {rule} on {serial}"
    _, elsewhere = world.raised(serial="SMM-2", family="motor", rule="R14")
    assert elsewhere != number


def test_a_visit_that_nobody_ends_does_not_keep_findings_for_ever(world: World, number: int) -> None:
    world.advance(hours=8, minutes=1)
    _, other = world.raised(family="motor", rule="R14")
    assert other != number


def test_waiting_for_a_part_names_it_and_a_day_and_stops_the_clock(world: World, number: int) -> None:
    for form in ({"part": ""}, {"promised_on": ""}, {"promised_on": "soon"}, {"promised_on": "2020-01-01"}):
        with pytest.raises(InvalidError) as caught:
            world.do("wang", Action.WAIT_FOR_PARTS, number, **form)
        assert caught.value.field in form
    world.do("wang", Action.WAIT_FOR_PARTS, number)
    with pytest.raises(ForbiddenError):
        world.do("wang", Action.PARTS_ARRIVED, number)
    world.advance(hours=50)
    world.do("clerk", Action.PARTS_ARRIVED, number)
    ticket = world.ticket(number)
    assert (ticket.state, ticket.paused_s, ticket.assignee_id) == (
        State.DISPATCHED,
        50 * 3600,
        world.actors["wang"].person_id,
    )
    with pytest.raises(RefusedError, match="has begun"):
        world.do("manager", Action.CANCEL, number)


@pytest.mark.parametrize("field", ["fault", "cause", "measure"])
def test_a_repair_is_recorded_by_codes_of_this_type(world: World, number: int, field: str) -> None:
    for code in ("", "magic", {"fault": "A-T1", "cause": "fan_motor", "measure": "replace_fan"}[field]):
        with pytest.raises(InvalidError) as caught:
            world.do("wang", Action.FINISH_REPAIR, number, **{field: code})
        assert caught.value.field == field
    world.do("wang", Action.FINISH_REPAIR, number)
    with world.read() as session:
        (repair,) = session.scalars(select(Repair))
    assert (repair.fault, repair.cause, repair.measure) == ("S-T1", "element_open", "replace_element")


@pytest.mark.parametrize(
    ("measure", "plan", "program"),
    [
        ("replace_element", "soymilk:heating", None),
        ("replace_bearing", "soymilk:motor", "grinds"),
        ("replace_valve", "soymilk:inlet", "fills"),
    ],
)
def test_the_measure_decides_plan_and_program_and_the_run_keeps_copies(
    world: World, measure: str, plan: str, program: str | None
) -> None:
    _, number = world.raised(family="motor", rule="R14")
    world.at_the_machine(number)
    world.do("wang", Action.FINISH_REPAIR, number, measure=measure, target_l="3.5")
    (run,) = world.runs(number)
    assert run.plan["key"] == plan
    assert (run.card["key"], run.target_l, run.original_rule) == ("SMM-10", 3.5, "R14")
    (command,) = commands(world)
    assert command.name == "test_mode"
    assert command.params["interval_s"] == 5
    assert command.params["ttl_s"] >= run.plan["cap_s"]
    if program:
        assert command.params["program"] == program


def test_the_machine_is_judged_by_the_altitude_of_its_site(world: World, number: int) -> None:
    with world.command() as session:
        registry.machine(session, "SMM-1").site.altitude_m = 1890.0
    world.do("wang", Action.FINISH_REPAIR, number)
    assert world.runs(number)[0].card["site_altitude_m"] == 1890.0


# -------------------------------------------------------------------------------------------------------- the test run


def test_a_second_repair_voids_what_was_proved_before(world: World, number: int) -> None:
    world.do("wang", Action.FINISH_REPAIR, number)
    decide(world, number, Outcome.PASSED, probation=True)
    ticket = world.ticket(number)
    assert (ticket.state, ticket.probation_until) == (State.VERIFIED, world.now + timedelta(hours=72))
    world.do("wang", Action.BACK_TO_REPAIR, number)
    assert world.ticket(number).probation_until is None
    assert world.runs(number)[0].voided_at == world.now
    world.do("wang", Action.FINISH_REPAIR, number)
    with pytest.raises(RefusedError):
        world.do("dispatcher", Action.CLOSE, number)
    assert [run.attempt for run in world.runs(number)] == [2, 1]


def test_a_run_that_is_left_is_sealed_without_a_verdict_and_the_machine_is_stopped(world: World, number: int) -> None:
    world.do("wang", Action.FINISH_REPAIR, number)
    world.advance(seconds=5)
    world.feed([Reading("SMM-1", "soymilk", to_ms(world.now), {"power_w": 8.0}, recv_ms=to_ms(world.now))])
    world.do("wang", Action.BACK_TO_REPAIR, number)
    run = world.runs(number)[0]
    assert (run.outcome, run.voided_at) == (Outcome.INCONCLUSIVE, world.now)
    with world.read() as session:
        row = query.verdict(session, run.id)
        assert row is not None
        assert row.evidence_samples == 1
    assert world.feed([Reading("SMM-1", "soymilk", to_ms(world.now), {"power_w": 9.0}, recv_ms=to_ms(world.now))]) == 0
    test_mode, stop = commands(world)
    assert (test_mode.name, test_mode.expires_at, stop.name) == ("test_mode", world.now, "stop")
    decide(world, number, Outcome.PASSED)
    assert world.ticket(number).state == State.REPAIRING


def test_a_verdict_is_recorded_once(world: World, number: int) -> None:
    world.do("wang", Action.FINISH_REPAIR, number)
    decide(world, number, Outcome.FAILED)
    decide(world, number, Outcome.PASSED)
    assert world.ticket(number).state == State.REPAIRING
    with pytest.raises(RefusedError):
        world.do("dispatcher", Action.CLOSE, number)
    with pytest.raises(IntegrityError), world.engine.begin() as connection:
        connection.execute(text("UPDATE verdict SET outcome = 'passed'"))


def test_an_inconclusive_run_is_measured_again_but_not_while_it_is_measured(world: World, number: int) -> None:
    world.do("wang", Action.FINISH_REPAIR, number, measure="replace_bearing")
    with pytest.raises(RefusedError, match="still being measured"):
        world.do("wang", Action.EXTEND_TEST, number)
    decide(world, number, Outcome.INCONCLUSIVE)
    world.do("dispatcher", Action.EXTEND_TEST, number)
    again, first = world.runs(number)
    assert (again.plan, again.outcome, again.attempt) == (first.plan, Outcome.PENDING, 2)
    decide(world, number, Outcome.PASSED)
    world.do("wang", Action.CLOSE, number)
    assert world.ticket(number).state == State.CLOSED


def test_only_the_managers_reason_waives_a_test_run(world: World, number: int) -> None:
    world.do("wang", Action.FINISH_REPAIR, number)
    with pytest.raises(ForbiddenError):
        world.do("wang", Action.WAIVE, number)
    with pytest.raises(InvalidError):
        world.do("manager", Action.WAIVE, number, reason="")
    world.do("manager", Action.WAIVE, number, reason="客户急用")
    ticket = world.ticket(number)
    assert (ticket.state, ticket.waived_at, ticket.rearm_at) == (
        State.VERIFIED,
        world.now,
        world.now + timedelta(minutes=30),
    )
    assert world.runs(number)[0].outcome == Outcome.INCONCLUSIVE
    with world.read() as session:
        assert query.timeline(session, number)[-1].reason == "客户急用"


def test_whoever_gets_round_the_triggers_changes_no_verdict(world: World, number: int) -> None:
    world.do("wang", Action.FINISH_REPAIR, number)
    world.feed(moved(healthy(), "SMM-1", world.now + timedelta(seconds=5)))
    world.tick(hours=1)
    sealed = world.runs(number)[0]
    assert sealed.outcome == Outcome.PASSED
    with world.command() as session:
        session.execute(text("DROP TRIGGER test_run_is_fixed"))
        session.execute(
            text("UPDATE test_run SET plan = '{}', card = '{}', demo_site = 1, started_at = '2030-01-01 00:00:00'")
        )
    with world.read() as session:
        run, verdict = query.run(session, sealed.id), query.verdict(session, sealed.id)
        assert verdict is not None
        assert evidence.intact(verdict)
        again = judge_run(session, run, ended=True)
        assert {**evidence.verdict_body(again), "run": verdict.body["run"]} == verdict.body
        for change in ({"demo_site": True}, {"plan": {}}, {"started_at": "2030-01-01T00:00:00+00:00"}):
            verdict.body = {**verdict.body, "run": {**verdict.body["run"], **change}}
            assert not evidence.intact(verdict)
        session.rollback()


def test_an_outcome_that_no_verdict_says_closes_nothing(world: World, number: int) -> None:
    world.do("wang", Action.FINISH_REPAIR, number)
    decide(world, number, Outcome.INCONCLUSIVE)
    with world.command() as session:
        for trigger in ("test_run_is_fixed", "ticket_state_is_told"):
            session.execute(text(f"DROP TRIGGER {trigger}"))
        session.execute(text("UPDATE test_run SET outcome = 'passed'"))
        session.execute(text("UPDATE ticket SET state = 'verified'"))
    with pytest.raises(RefusedError, match="Only a passed test run"):
        world.do("dispatcher", Action.CLOSE, number)


def test_a_run_that_cannot_be_judged_does_not_hold_up_the_others(world: World, number: int) -> None:
    _, other = world.raised(serial="SMM-2")
    world.at_the_machine(other, "li")
    for who, each in (("wang", number), ("li", other)):
        world.do(who, Action.FINISH_REPAIR, each)
    with world.command() as session:
        run = query.runs(session, number)[0]
        session.add(EvidenceSample(run_id=run.id, identity="broken", ts_ms=0, body={}))
    world.tick(hours=25)
    assert [world.runs(each)[0].outcome for each in (number, other)] == [Outcome.PENDING, Outcome.INCONCLUSIVE]


def test_entries_are_the_technicians_while_the_run_is_measured_and_only_those_asked_for(world: World) -> None:
    _, number = world.raised(family="lid", rule="R28")
    world.at_the_machine(number)
    world.do(
        "wang", Action.FINISH_REPAIR, number, fault="S-T8", cause="lid_switch_failed", measure="replace_lid_switch"
    )
    run = world.runs(number)[0]

    def entered(who: str, key: str, value: float | bool) -> None:
        with world.command() as session:
            enter(session, run.id, world.actors[who], key, value, world.now)

    for who, key, value, refusal in (
        ("li", "switch", True, ForbiddenError), ("manager", "switch", True, ForbiddenError),
        ("wang", "magic", True, InvalidError), ("wang", "switch", 3.0, InvalidError),
    ):  # fmt: skip
        with pytest.raises(refusal):
            entered(who, key, value)
    entered("wang", "switch", True)
    assert world.runs(number)[0].entries == {"switch": True}
    assert world.actions(number)[-1] == "entry"
    decide(world, number, Outcome.PASSED)
    with pytest.raises(RefusedError, match="over"):
        entered("wang", "switch", False)


def test_samples_are_kept_once_and_only_from_the_run_on(world: World, number: int) -> None:
    world.advance(seconds=1)
    world.do("wang", Action.FINISH_REPAIR, number)
    at = to_ms(world.now)

    def sample(seq: int | None, offset: int, *, late: int = 0, power: float = 8.0) -> Reading:
        ts = at + offset
        return Reading("SMM-1", "soymilk", ts, {"power_w": power}, boot="b", seq=seq, recv_ms=ts + late)

    with world.command() as session:
        assert append_samples(session, [sample(1, -5000), sample(2, 0), sample(3, 5000)], world.now) == 2
        assert append_samples(session, [sample(2, 0), sample(3, 5000), sample(4, 10_000)], world.now) == 1
        assert append_samples(session, [sample(None, 7000), sample(None, 7000, late=90_000)], world.now) == 1
        assert append_samples(session, [sample(None, 7000, power=9.0)], world.now) == 1
        assert append_samples(session, [Reading("SMM-2", "soymilk", at, {})], world.now) == 0
        run = query.runs(session, number)[0]
        assert run.samples == 5
        assert [r.ts - at for r in evidence.samples(session, run)] == [0, 5000, 7000, 7000, 10_000]


def test_two_tickets_of_a_machine_are_measured_side_by_side(world: World, number: int) -> None:
    """Found by two people before anybody came: one visit, two repairs, and each has its own proof."""
    with world.command() as session:
        # the first visit keeps findings to itself, so the second complaint has come by telephone
        other = open_from_call(
            session, world.actors["operator"], Call(Kind.REPAIR, "不进水", "刘", "1", "SMM-1", "water"), world.now
        )[0].id
    world.at_the_machine(other)
    for each in (number, other):
        world.do("wang", Action.FINISH_REPAIR, each)
    sample = Reading("SMM-1", "soymilk", to_ms(world.now), {"power_w": 8.0}, recv_ms=to_ms(world.now))
    assert world.feed([sample]) == 2
    assert [world.runs(each)[0].samples for each in (number, other)] == [1, 1]
    world.advance(seconds=1)
    world.do("wang", Action.BACK_TO_REPAIR, number)
    assert commands(world)[-1].name == "test_mode", "the other run goes on"
    decide(world, other, Outcome.FAILED)
    assert commands(world)[-1].name == "stop"


@pytest.mark.parametrize("backlog", [healthy, one_element_lost])
def test_a_backlog_from_before_the_repair_proves_nothing(
    world: World, number: int, backlog: Callable[[], list[Reading]]
) -> None:
    """The gateway was away: what the broker kept for it comes at once, after the repair and from before it."""
    world.do("wang", Action.FINISH_REPAIR, number)
    finished = world.now
    trace = moved(backlog(), "SMM-1", finished - timedelta(seconds=1600))
    world.advance(minutes=27)
    world.feed([dataclasses.replace(r, recv_ms=to_ms(world.now)) for r in trace if r.ts < to_ms(finished)])
    for _ in range(3):
        world.tick(seconds=20)
    assert (world.runs(number)[0].outcome, world.ticket(number).state) == (Outcome.PENDING, State.TESTING)


def spoilt(reading: Reading, place: int, how: str) -> Reading:
    """A reading of a machine that cannot pass."""
    match how:
        case "1970":
            return dataclasses.replace(reading, ts=reading.ts % 10**8)
        case "back":
            return dataclasses.replace(reading, ts=reading.ts - 600_000 * (place > 20))
        case "future":
            return dataclasses.replace(reading, ts=reading.ts + 86_400_000 * (place == 20))
        case _:
            return dataclasses.replace(reading, simulated=True)


@pytest.mark.parametrize("how", ["1970", "back", "future", "simulated"])
def test_nobody_waits_longer_than_the_cap_for_what_can_never_pass(world: World, number: int, how: str) -> None:
    world.do("wang", Action.FINISH_REPAIR, number)
    start, cap = to_ms(world.now), int(world.runs(number)[0].plan["cap_s"])
    for place, at in enumerate(range(0, cap + 40, 10)):
        reading = Reading(
            "SMM-1", "soymilk", start + at * 1000, {"power_w": 8.0, "voltage_v": 220.0, "run_state": "standby"},
            boot="b", seq=place, recv_ms=start + at * 1000,
        )  # fmt: skip
        world.feed([spoilt(reading, place, how)])
    world.advance(seconds=cap - 60)
    world.tick(seconds=130)
    assert (world.runs(number)[0].outcome, world.ticket(number).state) == (Outcome.INCONCLUSIVE, State.TESTING)


# ------------------------------------------------------------------------------------------------- the end, and after


def proved(world: World, number: int) -> None:
    """Repair and pass."""
    world.do("wang", Action.FINISH_REPAIR, number)
    decide(world, number, Outcome.PASSED)


def test_what_the_verdict_disproved_is_over_and_what_it_did_not_lives_on(world: World) -> None:
    _, number = world.raised()
    world.at_the_machine(number)
    world.raised(family="filter", rule="R18", severity=Severity.P4)
    world.raised(family="motor", rule="R14")
    world.clear(world.finding(family="motor", rule="R14"))
    proved(world, number)
    world.advance(minutes=5)
    world.do("dispatcher", Action.CLOSE, number)
    assert {(t.family, t.state) for t in world.tickets()} == {("heating", State.CLOSED), ("filter", State.REPORTED)}
    with world.read() as session:
        assert [row.family for row in query.uncleared_findings(session, "SMM-1")] == ["filter"]


def test_a_fault_that_returns_between_verdict_and_closing_is_a_rework_at_once(world: World, number: int) -> None:
    proved(world, number)
    world.advance(minutes=5)
    _, joined = world.raised()
    assert joined == number
    with world.read() as session:
        told = query.notices(session, person_id=world.actors["wang"].person_id or 0, roles=[])
    assert told[0].message_id == "{rule} fired again on {serial} after its test run"
    world.do("dispatcher", Action.CLOSE, number)
    closed, again = world.tickets()
    assert (closed.state, again.state, again.rework_of_id) == (State.CLOSED, State.REPORTED, number)


def test_another_fault_after_the_verdict_is_a_ticket_of_its_own(world: World, number: int) -> None:
    proved(world, number)
    _, other = world.raised(family="motor", rule="R14")
    assert other != number


def test_after_a_waiver_the_rules_rest_for_half_an_hour_and_then_count_again(world: World, number: int) -> None:
    world.do("manager", Action.WAIVE, number)
    world.do("dispatcher", Action.CLOSE, number)
    _, kept = world.raised(family="motor", rule="R14")
    assert kept == number
    world.tick(minutes=29)
    assert len(world.tickets()) == 1
    world.tick(minutes=2)
    waived, *new = world.tickets()
    assert {ticket.family for ticket in new} == {"heating", "motor"}
    assert [ticket.rework_of_id for ticket in new if ticket.family == "heating"] == [number]
    assert waived.rearm_at is None
    world.tick(hours=1)
    assert len(world.tickets()) == 3


def test_a_waiver_that_is_closed_late_arms_the_rules_then(world: World, number: int) -> None:
    world.do("manager", Action.WAIVE, number)
    world.tick(hours=2)
    assert len(world.tickets()) == 1
    world.do("dispatcher", Action.CLOSE, number)
    world.tick(minutes=1)
    assert len(world.tickets()) == 2


def test_an_accepted_installation_starts_the_warranty(world: World) -> None:
    ticket, _ = call(world, kind=Kind.INSTALLATION)
    world.at_the_machine(ticket.id)
    world.do("wang", Action.FINISH_REPAIR, ticket.id, measure="install_soymilk")
    assert world.runs(ticket.id)[0].plan["key"] == "soymilk:acceptance"
    decide(world, ticket.id, Outcome.PASSED)
    world.do("wang", Action.CLOSE, ticket.id)
    with world.read() as session:
        machine = session.scalars(select(Equipment).where(Equipment.serial == "SMM-1")).one()
    assert (machine.installed_on, machine.warranty_until) == (date(2026, 3, 2), date(2027, 3, 2))


def test_nothing_that_has_begun_is_cancelled_by_any_way_round(world: World, number: int) -> None:
    world.do("dispatcher", Action.REASSIGN, number, assignee=str(world.actors["li"].person_id))
    with pytest.raises(RefusedError, match="has begun"):
        world.do("manager", Action.CANCEL, number)
    world.do("li", Action.DECLINE, number)
    with pytest.raises(RefusedError, match="has begun"):
        world.do("dispatcher", Action.CANCEL, number)
    world.do("operator", Action.ASK_CONSENT, number)
    with pytest.raises(RefusedError, match="has begun"):
        world.do("manager", Action.REFUSE, number)


def test_a_stale_page_is_refused_whatever_it_wants(world: World, number: int) -> None:
    version = world.ticket(number).version
    world.do("wang", Action.FINISH_REPAIR, number)
    for who, action in (
        ("manager", Action.WAIVE),
        ("wang", Action.BACK_TO_REPAIR),
        ("dispatcher", Action.EXTEND_DEADLINE),
    ):
        with pytest.raises(ConflictError):
            world.do(who, action, number, version=version)


# --------------------------------------------------------------------------------------------------------------- time


def test_deadlines_warn_and_escalate_once_and_are_extended_once(world: World) -> None:
    _, number = world.raised()
    world.tick(hours=19)
    assert notices(world, Role.DISPATCHER) == []
    world.tick(hours=1)
    world.tick(hours=1)
    assert [n.message_id for n in notices(world, Role.DISPATCHER)] == ["Deadline near: ticket {number}"]
    world.do("dispatcher", Action.EXTEND_DEADLINE, number)
    world.tick(hours=22)
    assert len(notices(world, Role.DISPATCHER)) == 1
    with pytest.raises(RefusedError, match="already"):
        world.do("manager", Action.EXTEND_DEADLINE, number)
    world.tick(hours=4)
    world.tick(hours=4)
    assert len(notices(world, Role.DISPATCHER)) == 2
    assert [n.message_id for n in notices(world, Role.MANAGER)] == ["Deadline missed: ticket {number}"]
    assert world.actions(number).count("escalated") == 1


def test_a_gateway_that_was_away_escalates_at_once(world: World) -> None:
    _, number = world.raised()
    world.tick(hours=60)
    assert world.ticket(number).warned_at is None
    assert [n.params for n in notices(world, Role.MANAGER)] == [{"number": number}]


def test_ended_tickets_are_left_alone_by_time(world: World) -> None:
    _, number = world.raised()
    world.do("dispatcher", Action.CANCEL, number)
    before = world.ticket(number)
    world.tick(days=3)
    after = world.ticket(number)
    assert (before.version, before.due_at) == (after.version, after.due_at)
    assert isinstance(after, Ticket)
