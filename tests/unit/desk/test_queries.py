"""The questions that are asked all the time: in few statements, and by an index however many tickets have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert
from sqlalchemy.orm import Session

from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import Equipment, Ticket
from domain.tickets.states import State
from tests.desk_world import World

OPEN_STATES = (State.REPORTED, State.READY, State.DISPATCHED, State.REPAIRING, State.TESTING)
Statement = tuple[str, Any]


@pytest.fixture(scope="module")
def world() -> World:
    """500 open tickets and 5,000 that have ended, on 500 machines."""
    world = World()
    now = world.now
    common = {
        "version": 1, "kind": "repair", "source": "telemetry", "family": "heating", "severity": 3, "fault_kind": "real",
        "occurrences": 1, "customer_words": "", "caller_name": "", "caller_phone": "", "triage": {},
        "site_id": 1, "customer_id": 1, "deadline_extended": False, "paused_s": 0.0, "opened_at": now,
        "assignee_id": world.actors["wang"].person_id,
    }  # fmt: skip
    with world.command() as session:
        session.execute(
            insert(Equipment),
            [
                {
                    "serial": f"M{n}", "type": "soymilk", "model": "SMM-10", "name": "", "site_id": 1 + n % 2, "created_at": now,
                    "binding_convention": "", "binding_zone": "",
                }
                for n in range(500)
            ],
        )  # fmt: skip
        ended = now - timedelta(days=40)
        session.execute(
            insert(Ticket),
            [
                common | {"serial": f"M{n % 500}", "state": "closed", "due_at": ended, "ended_at": ended}
                for n in range(5000)
            ],
        )
        session.execute(
            insert(Ticket),
            [
                common | {"serial": f"M{n}", "state": OPEN_STATES[n % 5].value, "due_at": now + timedelta(minutes=n)}
                for n in range(500)
            ],
        )
    return world


@contextmanager
def statements(world: World) -> Iterator[list[Statement]]:
    """The SELECTs that are sent meanwhile."""
    seen: list[Statement] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    event.listen(world.engine, "before_cursor_execute", note)
    yield seen
    event.remove(world.engine, "before_cursor_execute", note)


def test_a_board_of_five_hundred_tickets_is_one_statement(world: World) -> None:
    with statements(world) as seen, world.read() as session:
        board = [
            [related.name for related in (t.equipment, t.site, t.customer, t.assignee) if related]
            for t in query.open_tickets(session)
        ]
    assert len(board) == 500
    assert len(seen) == 1


ASKED: dict[str, Callable[[Session, World], object]] = {
    "one's own": lambda s, w: query.open_tickets(s, assignee_id=w.actors["wang"].person_id),
    "the board": lambda s, w: query.open_tickets(s),
    "counts": lambda s, w: query.counts_by_state(s),
    "ended lately": lambda s, w: query.recently_ended(s, w.now),
    "deadlines": lambda s, w: query.with_running_deadline(s, w.now + timedelta(hours=4)),
    "to be armed": lambda s, w: query.to_rearm(s, w.now),
    "not accepted": lambda s, w: query.dispatched_before(s, w.now),
    "guided": lambda s, w: query.guided(s),
    "open of family": lambda s, w: query.open_of_family(s, "M5", "heating"),
    "open of machine": lambda s, w: query.open_repair(s, "M5"),
    "keeping findings": lambda s, w: query.keeping_findings(s, "M5", w.now),
    "ended of family": lambda s, w: query.last_ended(s, "M5", w.now - timedelta(days=30), family="heating"),
    "repair visits": lambda s, w: query.repair_visits(s, "M5", w.now),
    "workload": lambda s, w: registry.open_ticket_counts(s),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_all_the_time_is_found_by_an_index(world: World, name: str) -> None:
    with statements(world) as seen, world.read() as session:
        ASKED[name](session, world)
    with world.engine.connect() as connection:
        for statement, parameters in seen:
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert not any(step.startswith("SCAN ticket") for step in plan), plan
