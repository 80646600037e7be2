"""The event streams, over a real server in a thread: what wakes them, what ends them."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest

from domain.errors import SettingsError
from domain.store.tables import Journal, LoginSession, TestRun
from domain.tickets.states import Role, State
from portal import live as live_module
from portal.auth import IDLE
from portal.live import Live, Subscription, events
from portal.serve import serve
from tests.portal_site import NOW, PortalSite, log_in

TESTING = list(State).index(State.TESTING) + 1
READY = list(State).index(State.READY) + 1


@pytest.fixture
def address(site: PortalSite) -> Iterator[str]:
    """The portal on a free port."""
    stop, ready = threading.Event(), queue.Queue[str]()
    thread = threading.Thread(target=serve, args=(site.app, ("127.0.0.1", 0), stop, ready.put), daemon=True)
    thread.start()
    try:
        yield ready.get(timeout=30)
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not thread.is_alive()


@contextmanager
def browser(address: str, role: Role) -> Iterator[httpx.Client]:
    """Somebody logged in over the network."""
    with httpx.Client(base_url=address, timeout=20, follow_redirects=True) as client:
        assert log_in(client, role.value).status_code == 303
        yield client


def happen(site: PortalSite, ticket_id: int) -> None:
    """Something is written into the journal of a ticket."""
    with site.sessions.command() as session:
        session.add(Journal(at=NOW, ticket_id=ticket_id, actor_name="test", action="guide"))


def lines_until(lines: Iterator[str], wanted: str) -> list[str]:
    """Lines read up to and with one that begins so."""
    read = []
    for line in lines:
        read.append(line)
        if line.startswith(wanted):
            return read
    raise AssertionError(f"the stream ended before {wanted!r}: {read}")


def test_a_journal_row_reaches_the_page(site: PortalSite, address: str) -> None:
    with browser(address, Role.DISPATCHER) as client, client.stream("GET", "/live") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in stream.headers
        lines = stream.iter_lines()
        lines_until(lines, "retry:")
        happen(site, READY)
        assert lines_until(lines, "event:")[-1] == "event: change"
        assert lines_until(lines, "data:")[-1] == f'data: {{"tickets": [{READY}]}}'


def test_progress_of_a_test_run_reaches_the_page_of_its_ticket(site: PortalSite, address: str) -> None:
    with browser(address, Role.TECHNICIAN) as client, client.stream("GET", f"/live?ticket={TESTING}") as stream:
        lines = stream.iter_lines()
        lines_until(lines, "retry:")
        happen(site, READY)  # another's ticket: not told
        with site.sessions.command() as session:
            run = TestRun(ticket_id=TESTING, serial="FA-0101", attempt=1, plan={}, card={}, started_at=NOW)
            session.add(run)
        assert lines_until(lines, "data:")[-1] == f'data: {{"tickets": [{TESTING}]}}'
        with site.sessions.command() as session:
            session.get_one(TestRun, run.id).samples = 1
        assert lines_until(lines, "data:")[-1] == f'data: {{"tickets": [{TESTING}]}}'


@pytest.mark.parametrize("query", ["", f"?ticket={READY}", "?ticket=999"])
def test_a_technician_may_not_follow_what_is_not_theirs(site: PortalSite, address: str, query: str) -> None:
    with browser(address, Role.TECHNICIAN) as client:
        assert client.get(f"/live{query}").status_code == 404


def test_a_stream_ends_at_the_next_event_after_its_session_has(site: PortalSite, address: str) -> None:
    with browser(address, Role.DISPATCHER) as client, client.stream("GET", "/live") as stream:
        lines = stream.iter_lines()
        lines_until(lines, "retry:")
        with site.sessions.command() as session:
            session.query(LoginSession).delete()
        happen(site, READY)
        assert lines_until(lines, "event:")[-1] == "event: end"
        assert [line for line in lines if line.startswith("event: change")] == []


def test_an_open_stream_does_not_keep_a_session_alive(site: PortalSite, address: str) -> None:
    with browser(address, Role.DISPATCHER) as client, client.stream("GET", "/live") as stream:
        lines = stream.iter_lines()
        lines_until(lines, "retry:")
        for span, event in ((IDLE - timedelta(minutes=1), "event: change"), (timedelta(minutes=2), "event: end")):
            site.wall.advance(span)
            happen(site, READY)
            assert lines_until(lines, "event:")[-1] == event


def test_whoever_lost_the_connection_is_told_when_something_happened_meanwhile(site: PortalSite, address: str) -> None:
    with browser(address, Role.DISPATCHER) as client:
        with client.stream("GET", "/live", headers={"Last-Event-ID": "1"}) as stream:
            assert lines_until(stream.iter_lines(), "event:")[-1] == "event: change"
        newest = str(site.app.state.portal.live.last_id())
        with client.stream("GET", "/live", headers={"Last-Event-ID": newest}) as stream:
            lines = stream.iter_lines()
            lines_until(lines, "retry:")
            happen(site, READY)
            # The poller may still tell of rows that were there before; the new one comes, and comes last.
            told = lines_until(lines, "id:")[-1]
            while told != f"id: {int(newest) + 1}":
                assert int(told.removeprefix("id: ")) <= int(newest)
                told = lines_until(lines, "id:")[-1]


def test_stopping_the_server_ends_its_streams(site: PortalSite) -> None:
    stop, ready = threading.Event(), queue.Queue[str]()
    thread = threading.Thread(target=serve, args=(site.app, ("127.0.0.1", 0), stop, ready.put), daemon=True)
    thread.start()
    with browser(ready.get(timeout=30), Role.DISPATCHER) as client, client.stream("GET", "/live") as stream:
        lines = stream.iter_lines()
        lines_until(lines, "retry:")
        stop.set()
        assert [line for line in lines if line.startswith("event:")] == []
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_changes_run_together_while_nobody_reads(site: PortalSite) -> None:
    async def story() -> None:
        subscription = Subscription(None)
        for number in range(1000):
            subscription.notify({number % 3}, number)
        assert await subscription.next_change(1) == ({0, 1, 2}, 999)
        assert await subscription.next_change(0.01) is None

    asyncio.run(story())


def test_a_quiet_stream_says_that_it_lives(site: PortalSite) -> None:
    async def story() -> list[str]:
        live = Live(site.sessions)
        stream = events(live, live.subscribe(None), lambda: True, None, heartbeat_s=0.01)
        said = [await anext(stream) for _ in range(3)]
        await stream.aclose()
        live.close()
        return said

    assert asyncio.run(story()) == ["retry: 2000\n\n", ": still here\n\n", ": still here\n\n"]
    assert live_module.HEARTBEAT_S == 15


def test_a_busy_port_is_one_clear_message(site: PortalSite) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SettingsError, match="BREWAIR_PORTAL_BIND: cannot listen on 127"):
            serve(site.app, other.getsockname(), threading.Event())
