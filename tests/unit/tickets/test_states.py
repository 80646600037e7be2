"""The state table against the process as it was agreed, and against itself."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest

from domain.errors import ForbiddenError, IllegalTransitionError, RefusedError
from domain.tickets.states import (
    ACTIONS,
    STATES,
    TERMINAL,
    TRANSITIONS,
    VOIDS_VERDICT,
    Action,
    Deadline,
    Facts,
    Kind,
    Role,
    State,
    check,
    permitted,
)

AGREED = """
guide                | reported                                      | guided           | operator system
solve_by_phone       | guided                                        | solved_by_phone  | operator system
visit_needed         | reported guided                               | ready            | operator dispatcher system
ask_consent          | reported guided ready                         | awaiting_consent | operator
consent              | awaiting_consent                              | ready            | operator
refuse               | awaiting_consent                              | cancelled        | manager
assign               | ready                                         | dispatched       | dispatcher system
reassign             | dispatched accepted on_the_way waiting_parts repairing | dispatched | dispatcher
accept               | dispatched                                    | accepted         | technician
decline              | dispatched                                    | ready            | technician
expire               | dispatched                                    | ready            | system
leave                | accepted                                      | on_the_way       | technician
arrive               | accepted on_the_way                           | repairing        | technician
wait_for_parts       | repairing                                     | waiting_parts    | technician
parts_arrived        | waiting_parts                                 | dispatched       | parts_clerk
finish_repair        | repairing                                     | testing          | technician
verdict_passed       | testing                                       | verified         | system
verdict_failed       | testing                                       | repairing        | system
verdict_inconclusive | testing                                       | testing          | system
extend_test          | testing                                       | testing          | technician dispatcher
back_to_repair       | testing verified                              | repairing        | technician system
waive                | testing repairing                             | verified         | manager
close                | verified                                      | closed           | technician dispatcher
cancel               | reported guided awaiting_consent ready dispatched accepted | cancelled | dispatcher manager
"""
"""From → to and who, action by action, as the service process has it (extending the deadline stands apart)."""

CLOCK = {
    Deadline.PAUSED: {State.AWAITING_CONSENT, State.WAITING_PARTS},
    Deadline.ENDED: {State.CLOSED, State.SOLVED_BY_PHONE, State.CANCELLED},
}
ALL_CLEAR = Facts(passed_after_last_repair=True, telemetry_normal=True)
FLAGS = [field.name for field in dataclasses.fields(Facts) if field.name != "kind"]


def agreed() -> dict[tuple[str, str], tuple[str, frozenset[str]]]:
    """(from, action) → (to, roles)."""
    table = {}
    for line in AGREED.strip().splitlines():
        action, sources, target, roles = (cell.strip() for cell in line.split("|"))
        for source in sources.split():
            table[source, action] = (target, frozenset(roles.split()))
    return table


def test_every_transition_is_the_agreed_one_and_there_is_no_other() -> None:
    here = {
        (source.value, action.value): (target.value, frozenset(role.value for role in ACTIONS[action].roles))
        for (source, action), target in TRANSITIONS.items()
        if action is not Action.EXTEND_DEADLINE
    }
    assert here == agreed()


def test_the_deadline_stands_still_where_the_customer_or_a_part_is_waited_for() -> None:
    assert {s for s, facts in STATES.items() if facts.deadline is Deadline.PAUSED} == CLOCK[Deadline.PAUSED]
    assert CLOCK[Deadline.ENDED] == TERMINAL
    running = set(State) - CLOCK[Deadline.PAUSED] - TERMINAL
    assert set(ACTIONS[Action.EXTEND_DEADLINE].moves) == running


def test_terminal_states_have_no_way_out_and_every_other_state_has_one_to_an_end() -> None:
    for state in State:
        reached, grown = {state}, True
        while grown:
            further = reached | {target for (source, _), target in TRANSITIONS.items() if source in reached}
            grown, reached = further != reached, further
        assert (reached == {state}) == (state in TERMINAL)
        assert reached & TERMINAL


def test_every_state_is_reached_from_the_first() -> None:
    assert set(TRANSITIONS.values()) | {State.REPORTED} == set(State)


@pytest.mark.parametrize("state", State)
def test_permitted_is_exactly_what_check_lets_through(state: State) -> None:
    """For every role, alone and in pairs, and every combination of facts."""
    some_facts = [Facts(), ALL_CLEAR, *(dataclasses.replace(ALL_CLEAR, **{flag: False}) for flag in FLAGS)]
    some_facts += [dataclasses.replace(ALL_CLEAR, **{flag: True}) for flag in FLAGS]
    some_facts += [dataclasses.replace(facts, kind=Kind.CONSULTATION) for facts in some_facts]
    for first, second, facts in product(Role, Role, some_facts):
        roles = frozenset((first, second))
        offered = permitted(state, roles, facts)
        for action in Action:
            try:
                target = check(state, action, roles, facts)
            except RefusedError:
                assert action not in offered
            else:
                assert action in offered
                assert TRANSITIONS[state, action] is target


def test_refusals_say_which_kind_they_are() -> None:
    with pytest.raises(IllegalTransitionError):
        check(State.REPORTED, Action.CLOSE, frozenset(Role), ALL_CLEAR)
    with pytest.raises(ForbiddenError, match="role"):
        check(State.READY, Action.ASSIGN, frozenset((Role.TECHNICIAN,)), ALL_CLEAR)
    with pytest.raises(ForbiddenError, match="not assigned to you"):
        check(State.DISPATCHED, Action.ACCEPT, frozenset(Role), dataclasses.replace(ALL_CLEAR, own_ticket=False))
    with pytest.raises(RefusedError, match="has begun"):
        check(State.ACCEPTED, Action.CANCEL, frozenset(Role), Facts(repair_started=True))


@pytest.mark.parametrize(
    ("state", "action", "facts"),
    [
        (State.VERIFIED, Action.CLOSE, Facts()),
        (State.READY, Action.CANCEL, Facts(repair_started=True)),
        (State.AWAITING_CONSENT, Action.REFUSE, Facts(repair_started=True)),
        (State.GUIDED, Action.SOLVE_BY_PHONE, Facts(repair_started=True, telemetry_normal=True)),
        (State.GUIDED, Action.SOLVE_BY_PHONE, Facts()),
        (State.TESTING, Action.EXTEND_TEST, Facts(run_open=True)),
        (State.READY, Action.EXTEND_DEADLINE, Facts(deadline_extended=True)),
        (State.REPORTED, Action.VISIT_NEEDED, Facts(has_machine=False)),
        (State.REPORTED, Action.ASK_CONSENT, Facts(has_machine=False)),
    ],
)
def test_each_guard_holds(state: State, action: Action, facts: Facts) -> None:
    with pytest.raises(RefusedError):
        check(state, action, frozenset(Role), facts)


@pytest.mark.parametrize(
    ("state", "action", "facts"),
    [
        (State.VERIFIED, Action.CLOSE, Facts(passed_after_last_repair=True)),
        (State.VERIFIED, Action.CLOSE, Facts(waived_after_last_repair=True)),
        (State.READY, Action.CANCEL, Facts()),
        (State.GUIDED, Action.SOLVE_BY_PHONE, Facts(telemetry_normal=True)),
        (State.GUIDED, Action.SOLVE_BY_PHONE, Facts(has_telemetry=False)),
        (State.GUIDED, Action.SOLVE_BY_PHONE, Facts(kind=Kind.CONSULTATION)),
        (State.TESTING, Action.EXTEND_TEST, Facts()),
        (State.REPORTED, Action.VISIT_NEEDED, Facts()),
    ],
)
def test_each_guard_opens(state: State, action: Action, facts: Facts) -> None:
    assert check(state, action, frozenset(Role), facts) is TRANSITIONS[state, action]


def test_what_touches_the_machine_again_voids_its_proof() -> None:
    assert {Action.FINISH_REPAIR, Action.BACK_TO_REPAIR} <= VOIDS_VERDICT


def test_what_ends_a_ticket_asks_why_unless_it_is_proved() -> None:
    for action, facts in ACTIONS.items():
        if set(facts.moves.values()) & TERMINAL and action is not Action.CLOSE:
            assert "reason" in facts.fields
    assert "reason" in ACTIONS[Action.WAIVE].fields
