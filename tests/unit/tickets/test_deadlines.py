"""The 24 h / 48 h clock: running and paused time together are the wall's, whatever happened."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.desk.door import move_clock
from domain.store.tables import Ticket
from domain.tickets import deadlines
from domain.tickets.deadlines import Clock, view
from domain.tickets.states import STATES, TERMINAL, TRANSITIONS, Deadline, State

T0 = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ONWARD = {state: sorted({target for (source, _), target in TRANSITIONS.items() if source is state}) for state in State}


def test_running_and_paused_time_are_the_walls_in_ten_thousand_histories() -> None:
    rng = random.Random(20260302)
    for _ in range(10_000):
        history = [(rng.randrange(13), rng.randrange(200_000)) for _ in range(rng.randrange(30))]
        _live(history, rng.randrange(200_000))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 200_000)), max_size=30), st.integers(0, 200_000))
def test_running_and_paused_time_are_the_walls(history: list[tuple[int, int]], rest_s: int) -> None:
    _live(history, rest_s)


def _live(history: list[tuple[int, int]], rest_s: int) -> None:
    ticket = cast(
        Ticket,
        SimpleNamespace(
            opened_at=T0, due_at=T0 + deadlines.STANDARD, paused_at=None, paused_s=0.0, ended_at=None, warned_at=None
        ),
    )
    state, now = State.REPORTED, T0
    spent = dict.fromkeys(Deadline, timedelta(0))
    for choice, seconds in history:
        if state in TERMINAL:
            break
        now += timedelta(seconds=seconds)
        spent[STATES[state].deadline] += timedelta(seconds=seconds)
        after = ONWARD[state][choice % len(ONWARD[state])]
        move_clock(ticket, state, after, now)
        state = after
    if state not in TERMINAL:
        now += timedelta(seconds=rest_s)
        spent[STATES[state].deadline] += timedelta(seconds=rest_s)
    seen = view(ticket.due_at, paused_at=ticket.paused_at, ended_at=ticket.ended_at, now=now)
    running, paused = spent[Deadline.RUNS], spent[Deadline.PAUSED]
    assert deadlines.STANDARD - seen.remaining == running
    assert running + paused == (ticket.ended_at or now) - T0
    still = now - ticket.paused_at if ticket.paused_at else timedelta(0)
    assert timedelta(seconds=ticket.paused_s) + still == paused
    assert seen.due_at == T0 + deadlines.STANDARD + paused
    assert (seen.clock is Clock.PAUSED) == (STATES[state].deadline is Deadline.PAUSED)
    assert (seen.clock is Clock.ENDED) == (state in TERMINAL)


@pytest.mark.parametrize(
    ("left", "clock"),
    [
        (timedelta(hours=5), Clock.RUNNING),
        (timedelta(hours=4, seconds=1), Clock.RUNNING),
        (timedelta(hours=4), Clock.WARNING),
        (timedelta(seconds=1), Clock.WARNING),
        (timedelta(0), Clock.BREACHED),
        (timedelta(hours=-3), Clock.BREACHED),
    ],
)
def test_the_clock_warns_before_it_breaks(left: timedelta, clock: Clock) -> None:
    assert view(T0 + left, paused_at=None, ended_at=None, now=T0).clock is clock
