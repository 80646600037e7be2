"""How tickets begin: findings, calls, phone guidance, reworks."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from domain.clock import to_ms
from domain.desk.intake import SITE_OFFLINE, Call, open_from_call
from domain.errors import InvalidError, NotFoundError, RefusedError
from domain.findings import Kind, Severity
from domain.store.queries import tickets as query
from domain.store.tables import Notice, Ticket
from domain.tickets.states import Action, Role, State
from domain.tickets.states import Kind as TicketKind
from tests.desk_world import World


@pytest.fixture
def world() -> World:
    """Two sites, three machines, seven people."""
    return World()


def notices(world: World, role: Role) -> list[Notice]:
    """What a role was told, oldest first."""
    with world.read() as session:
        return query.notices(session, person_id=0, roles=[role.value])[::-1]


def call(
    world: World,
    serial: str = "SMM-1",
    family: str = "",
    *,
    kind: TicketKind = TicketKind.REPAIR,
    words: str = "不热了",
    source: str = "call",
    separate: bool = False,
) -> tuple[Ticket, bool]:
    """A call, by default about a repair."""
    told = Call(kind, words, "刘", "13800138000", serial, family, source=source, separate=separate)
    with world.command() as session:
        return open_from_call(session, world.actors["operator"], told, world.now)


def repaired(world: World, number: int) -> None:
    """Close a ticket by the manager's waiver and let the rules be armed again."""
    world.at_the_machine(number)
    world.do("manager", Action.WAIVE, number)
    world.do("dispatcher", Action.CLOSE, number)


def test_a_finding_opens_one_ticket_and_further_ones_join_it(world: World) -> None:
    _, number = world.raised()
    world.advance(minutes=1)
    _, again = world.raised(severity=Severity.P1)
    assert again == number
    ticket = world.ticket(number)
    assert (ticket.occurrences, ticket.severity, ticket.state, ticket.source) == (
        2,
        Severity.P1,
        State.REPORTED,
        "telemetry",
    )
    assert ticket.due_at == ticket.opened_at + timedelta(hours=24)
    assert world.actions(number) == ["open_from_finding", "finding_joined"]
    assert [n.message_id for n in notices(world, Role.DISPATCHER)] == ["Safety: {rule} on {serial}"]
    _, other = world.raised(family="water", rule="R07")
    _, elsewhere = world.raised(serial="SMM-2")
    assert len({number, other, elsewhere}) == 3


def test_joining_makes_nobodys_decision_stale(world: World) -> None:
    """A machine that keeps complaining must not keep people from acting."""
    _, number = world.raised()
    version = world.ticket(number).version
    for _ in range(3):
        world.advance(minutes=1)
        world.raised()
    world.do("operator", Action.VISIT_NEEDED, number, version=version)
    assert world.ticket(number).occurrences == 4


def test_a_real_fault_goes_straight_to_dispatch_also_when_it_joins(world: World) -> None:
    _, number = world.raised(kind=Kind.REAL)
    assert world.ticket(number).state == State.READY
    _, water = world.raised(family="water", rule="R07", kind=Kind.FALSE)
    world.do("operator", Action.GUIDE, water)
    world.advance(minutes=1)
    world.raised(family="water", rule="R08", kind=Kind.REAL)
    assert (world.ticket(water).state, world.ticket(water).fault_kind) == (State.READY, Kind.REAL)


def test_the_third_operating_matter_in_a_week_is_suspected_to_be_a_fault(world: World) -> None:
    for count in (1, 2, 3):
        finding, number = world.raised(family="water", rule="R07", kind=Kind.FALSE)
        assert world.ticket(number).fault_kind == (Kind.REAL if count == 3 else Kind.FALSE)
        world.clear(finding)
        if count < 3:
            world.do("dispatcher", Action.CANCEL, number)
            world.advance(days=2)
    assert world.ticket(number).triage["repeated"] == 3
    world.do("dispatcher", Action.CANCEL, number)
    world.advance(days=8)
    _, number = world.raised(family="water", rule="R07", kind=Kind.FALSE)
    assert world.ticket(number).fault_kind == Kind.FALSE


def test_a_silent_site_is_one_notice_and_no_ticket(world: World) -> None:
    for serial in ("SMM-1", "SMM-2"):
        _, number = world.raised(serial=serial, family="connection", rule="R01", cause="network")
        assert number == 0
    assert [n.message_id for n in notices(world, Role.DISPATCHER)] == [SITE_OFFLINE]
    world.advance(hours=2)
    world.raised(serial="SMM-1", family="connection", rule="R01", cause="network")
    assert len(notices(world, Role.DISPATCHER)) == 2
    _, number = world.raised(serial="SMM-2", family="connection", rule="R01", cause="no_power")
    assert number


def test_an_unregistered_machine_and_an_unknown_end_change_nothing(world: World) -> None:
    world.tell(world.finding(serial="GHOST"))
    assert world.tickets() == []


def test_a_finding_that_is_over_before_anybody_heard_of_it_is_still_a_ticket(world: World) -> None:
    """A machine that was offline tells of a fault that came and went."""
    finding = dataclasses.replace(world.finding(), cleared_at=to_ms(world.now) + 60_000)
    world.tell(finding)
    (ticket,) = world.tickets()
    assert world.actions(ticket.id) == ["open_from_finding", "finding_cleared"]
    world.tell(finding)
    assert world.ticket(ticket.id).occurrences == 1


def test_what_comes_back_is_a_rework_and_the_manager_hears_of_it_first(world: World) -> None:
    finding, number = world.raised()
    repaired(world, number)
    world.clear(finding)
    world.tick(hours=1)
    assert notices(world, Role.MANAGER)[-1].message_id != "Rework: {serial} failed again after ticket {earlier}"
    _, again = world.raised()
    assert world.ticket(again).rework_of_id == number
    assert notices(world, Role.MANAGER)[-1].params == {"serial": "SMM-1", "earlier": number}
    _, other = world.raised(family="water", rule="R07")
    assert world.ticket(other).rework_of_id is None
    repaired(world, again)
    world.advance(days=31)
    called, _ = call(world)
    assert called.rework_of_id is None


def test_a_call_about_what_was_repaired_lately_is_a_rework(world: World) -> None:
    finding, number = world.raised()
    repaired(world, number)
    world.clear(finding)
    world.advance(days=3)
    ticket, is_new = call(world)
    assert (is_new, ticket.rework_of_id) == (True, number)
    assert notices(world, Role.MANAGER)[-1].params["earlier"] == number


# --------------------------------------------------------------------------------------------------------------- calls


def test_a_call_joins_the_open_repair_unless_it_is_another_matter(world: World) -> None:
    _, number = world.raised()
    joined, is_new = call(world)
    assert (joined.id, is_new, joined.customer_words, joined.occurrences) == (number, False, "不热了", 2)
    assert world.actions(number)[-1] == "call_joined"
    other, is_new = call(world, separate=True)
    assert (is_new, other.family) == (True, "reported")
    again, is_new = call(world, separate=True)
    assert (again.id, is_new) == (other.id, False)
    water, is_new = call(world, family="water")
    assert (is_new, water.family) == (True, "water")


def test_a_finding_joins_the_ticket_of_a_call_of_its_family(world: World) -> None:
    ticket, _ = call(world, family="heating")
    _, number = world.raised()
    assert number == ticket.id


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"words": "  "}, "words"), ({"serial": ""}, "serial"), ({"family": "magic"}, "family"), ({"source": "smoke"}, "source"),
        ({"kind": TicketKind.INSTALLATION, "serial": ""}, "serial"),
    ],
)  # fmt: skip
def test_a_call_that_cannot_be_taken_names_its_field(world: World, given: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        call(world, **given)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert world.tickets() == []


def test_a_call_about_an_unknown_machine_is_not_found(world: World) -> None:
    with pytest.raises(NotFoundError):
        call(world, serial="GHOST")


def test_a_consultation_needs_neither_machine_nor_telemetry_and_has_no_visit(world: World) -> None:
    ticket, _ = call(world, serial="", kind=TicketKind.CONSULTATION)
    with pytest.raises(RefusedError, match="no machine"):
        world.do("operator", Action.VISIT_NEEDED, ticket.id)
    world.do("operator", Action.GUIDE, ticket.id)
    world.do("operator", Action.SOLVE_BY_PHONE, ticket.id)
    assert world.ticket(ticket.id).state == State.SOLVED_BY_PHONE
    _, is_new = call(world, serial="", kind=TicketKind.CONSULTATION)
    assert is_new


# ------------------------------------------------------------------------------------------------------------ guidance


def reports(world: World, minutes: int) -> None:
    """The machine reports each half minute, with a tick after each."""
    for _ in range(minutes * 2):
        world.advance(seconds=30)
        world.seen()
        world.tick()


def test_a_guided_machine_closes_its_own_ticket_three_minutes_after_it_is_normal(world: World) -> None:
    finding, number = world.raised(family="water", rule="R07", kind=Kind.FALSE)
    world.do("operator", Action.GUIDE, number)
    reports(world, 4)
    assert world.ticket(number).state == State.GUIDED
    world.clear(finding)
    finding_cleared = world.now
    reports(world, 2)
    assert world.ticket(number).state == State.GUIDED
    reports(world, 2)
    ticket = world.ticket(number)
    assert (ticket.state, ticket.fault_kind) == (State.SOLVED_BY_PHONE, Kind.FALSE)
    assert ticket.probation_until == finding_cleared + timedelta(minutes=3, hours=72)
    with world.read() as session:
        last = query.timeline(session, number)[-1]
    assert last.detail["telemetry"] is True
    assert last.detail["normal_since"]


def test_what_was_normal_before_the_guidance_proves_nothing(world: World) -> None:
    finding, number = world.raised(family="water", rule="R07", kind=Kind.FALSE)
    world.clear(finding)
    reports(world, 10)
    world.do("operator", Action.GUIDE, number)
    with pytest.raises(RefusedError, match="3 minutes"):
        world.do("operator", Action.SOLVE_BY_PHONE, number)
    reports(world, 4)
    assert world.ticket(number).state == State.SOLVED_BY_PHONE


def test_silence_and_another_grave_finding_keep_a_guided_ticket_open(world: World) -> None:
    finding, number = world.raised(family="water", rule="R07", kind=Kind.FALSE)
    world.do("operator", Action.GUIDE, number)
    world.clear(finding)
    world.seen()
    world.tick(minutes=6)
    assert world.ticket(number).state == State.GUIDED
    other, _ = world.raised(family="motor", rule="R14", severity=Severity.P2)
    reports(world, 5)
    assert world.ticket(number).state == State.GUIDED
    world.clear(other)
    minor, _ = world.raised(family="filter", rule="R18", severity=Severity.P4)
    reports(world, 5)
    assert world.ticket(number).state == State.SOLVED_BY_PHONE
    assert minor.cleared_at is None


def test_a_complaint_that_telemetry_never_saw_is_not_closed_by_its_silence(world: World) -> None:
    ticket, _ = call(world)
    world.do("operator", Action.GUIDE, ticket.id)
    reports(world, 20)
    assert world.ticket(ticket.id).state == State.GUIDED
    assert [n.message_id for n in notices(world, Role.OPERATOR)] == [
        "The self-check of {serial} did not help within 10 minutes"
    ]
    world.do("operator", Action.SOLVE_BY_PHONE, ticket.id)
    assert world.ticket(ticket.id).state == State.SOLVED_BY_PHONE


def test_a_machine_without_telemetry_is_solved_on_the_customers_word_and_counted_apart(world: World) -> None:
    ticket, _ = call(world)
    world.do("operator", Action.GUIDE, ticket.id)
    with pytest.raises(InvalidError):
        world.do("operator", Action.SOLVE_BY_PHONE, ticket.id, reason=" ")
    world.do("operator", Action.SOLVE_BY_PHONE, ticket.id)
    with world.read() as session:
        assert query.timeline(session, ticket.id)[-1].detail["telemetry"] is False


# ------------------------------------------------------------------------------------------------------------- consent


def test_a_charge_waits_for_consent_and_the_clock_stands_still(world: World) -> None:
    _, number = world.raised()
    due = world.ticket(number).due_at
    world.do("operator", Action.ASK_CONSENT, number)
    world.tick(hours=30)
    assert world.ticket(number).escalated_at is None
    world.do("operator", Action.CONSENT, number)
    ticket = world.ticket(number)
    assert (ticket.state, ticket.due_at, ticket.paused_s) == (State.READY, due + timedelta(hours=30), 30 * 3600)
    with world.read() as session:
        assert query.timeline(session, number)[-1].detail == {"consent_by": "刘老板", "consent_how": "By phone"}


def test_only_the_manager_ends_a_case_that_the_customer_refuses(world: World) -> None:
    _, number = world.raised()
    world.do("operator", Action.ASK_CONSENT, number)
    with pytest.raises(RefusedError):
        world.do("operator", Action.REFUSE, number)
    world.do("manager", Action.REFUSE, number)
    assert world.ticket(number).state == State.CANCELLED


def test_only_a_repair_takes_a_faults_family(world: World) -> None:
    consultation, _ = call(world, kind=TicketKind.CONSULTATION, family="heating")
    _, number = world.raised()
    assert (consultation.family, world.ticket(number).family) == ("consultation", "heating")
    assert number != consultation.id, "a fault must not end as a consultation does, without proof"
