"""The board: every open ticket once, in its column, with its deadline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import event

from domain.store.tables import Ticket
from domain.tickets.deadlines import Clock
from domain.tickets.states import TERMINAL, Role, State
from portal.pages.board import LANES, Filters, card_of, lanes_of
from tests.portal_site import NOW, PortalSite


def shown(text: str) -> set[int]:
    """Ids of the tickets on a board."""
    return {int(number) for number in re.findall(r'id="ticket-(\d+)"', text)}


def ids(site: PortalSite) -> dict[State, int]:
    """The seeded ticket of each state."""
    with site.sessions.read() as session:
        return {State(ticket.state): ticket.id for ticket in session.query(Ticket)}


def test_the_columns_are_every_open_state_once() -> None:
    states = [state for _title, _icon, _tone, states in LANES for state in states]
    assert len(states) == len(set(states))
    assert set(states) == set(State) - TERMINAL


def test_every_open_ticket_is_shown_and_no_ended_one(client_of, site: PortalSite) -> None:
    expected = {number for state, number in ids(site).items() if state not in TERMINAL}
    assert shown(client_of(Role.DISPATCHER).get("/board").text) == expected


@pytest.mark.parametrize(
    ("query", "states"),
    [
        ({"q": "FA-0101"}, {State.READY, State.TESTING}),
        ({"region": "华南"}, {State.AWAITING_CONSENT, State.ACCEPTED, State.WAITING_PARTS}),
        ({"technician": "3", "q": "SM-0001"}, {State.ON_THE_WAY}),
        ({"late": "1"}, {State.TESTING, State.VERIFIED}),
        ({"q": "no such thing"}, set()),
    ],
)
def test_filters_narrow_the_board(client_of, site: PortalSite, query: dict[str, str], states: set[State]) -> None:
    page = client_of(Role.DISPATCHER).get("/board", params=query).text
    number = ids(site)
    assert shown(page) == {number[state] for state in states}
    assert ("没有未完成的工单" in page) == (not states)


@pytest.fixture
def queries(site: PortalSite) -> Iterator[list[str]]:
    """The statements that the portal sends from here on."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    event.listen(site.sessions.engine, "before_cursor_execute", note)
    yield sent
    event.remove(site.sessions.engine, "before_cursor_execute", note)


def test_a_full_board_asks_the_database_no_more_than_an_empty_one(
    client_of, site: PortalSite, queries: list[str]
) -> None:
    client = client_of(Role.DISPATCHER)
    client.get("/board")
    queries.clear()
    before = client.get("/board").text
    few = len(queries)
    with site.sessions.command() as session:
        for number in range(45):
            session.add(
                Ticket(
                    kind="repair", state="ready", source="call", family="heating", severity=3, occurrences=1,
                    site_id=1 + number % 3, customer_id=1, opened_at=NOW, due_at=NOW, customer_words="不加热",
                )
            )  # fmt: skip
    queries.clear()
    full = client.get("/board").text
    assert len(shown(full)) == len(shown(before)) + 45
    assert len(queries) == few
    assert "“不加热”" in full


def test_a_live_board_fetches_itself_with_its_filters(client_of) -> None:
    page = client_of(Role.DISPATCHER).get("/board?late=1&region=%E5%8D%8E%E4%B8%9C").text
    assert 'hx-get="/board?late=1&amp;region=%E5%8D%8E%E4%B8%9C"' in page
    assert 'data-stream="/live"' in page


@pytest.mark.parametrize(
    ("due_in", "paused", "clock"),
    [
        (timedelta(hours=20), False, Clock.RUNNING),
        (timedelta(hours=2), False, Clock.WARNING),
        (timedelta(minutes=-5), False, Clock.BREACHED),
        (timedelta(hours=2), True, Clock.PAUSED),
    ],
)
def test_a_card_shows_the_clock_of_its_ticket(due_in: timedelta, paused: bool, clock: Clock) -> None:
    ticket = Ticket(
        id=1, state="ready", severity=2, family="heating", due_at=NOW + due_in, occurrences=1,
        paused_at=NOW - timedelta(minutes=1) if paused else None, ended_at=None,
    )  # fmt: skip
    card = card_of(ticket, NOW)
    assert card.deadline.clock is clock
    assert Filters(late="1").fit(card) == (clock in (Clock.WARNING, Clock.BREACHED))
    assert [len(lane.cards) for lane in lanes_of([card])] == [0, 1, 0, 0, 0, 0]


def test_in_a_demo_the_header_shows_the_scaled_clock(tmp_path) -> None:
    from datetime import UTC, datetime

    from fastapi.testclient import TestClient

    from domain.clock import ScaledClock
    from tests.portal_site import build, log_in

    # The epoch is long ago: what the page shows is business time, not the wall's.
    clock = ScaledClock(datetime.now(UTC) - timedelta(minutes=1), NOW, 30)
    with TestClient(build(tmp_path, clock).app) as client:
        log_in(client, "dispatcher")
        page = client.get("/board").text
    assert "演示时钟" in page
    assert "30×" in page
    assert 'data-factor="30"' in page
    assert ">14:3" in page  # 14:00 in Shanghai and half an hour


def test_without_a_demo_there_is_no_demo_clock(client_of) -> None:
    assert "demo-clock" not in client_of(Role.DISPATCHER).get("/board").text
