"""A maker's code that speaks of a fault which has a ticket already joins it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.desk import registry
from domain.desk.actor import Actor
from domain.desk.intake import record_findings
from domain.findings import Finding, Kind, Severity
from domain.store import schema
from domain.store.queries import tickets as query
from domain.store.session import Sessions, open_engine
from domain.tickets.states import Role

NOW = datetime(2026, 3, 10, 6, tzinfo=UTC)
ADMIN = Actor("test", frozenset((Role.ADMIN,)))


def _finding(rule: str, family: str, cause: str, raised_at: int) -> Finding:
    return Finding(rule, family, Severity.P2, "S1", raised_at, Kind.REAL, cause=cause)


@pytest.mark.parametrize(
    ("cause", "families"),
    [
        ("heating_timeout", ["heating"]),  # E4 is about the heating
        ("temperature_probe", ["heating", "code"]),  # E8 is about the sensor, which has no ticket
        ("unknown", ["heating", "code"]),
    ],
)
def test_a_code_joins_the_ticket_it_speaks_of(tmp_path: Path, cause: str, families: list[str]) -> None:
    """… and only that one."""
    engine = open_engine(f"sqlite:///{tmp_path / 'b.db'}")
    schema.upgrade(engine)
    sessions = Sessions(engine)
    with sessions.command() as session:
        customer = registry.save_customer(session, ADMIN, {"name": "c"}, NOW)
        site = registry.save_site(session, ADMIN, {"name": "s", "customer_id": str(customer.id)}, NOW)
        form = {"serial": "S1", "type": "soymilk", "model": "SMM-25", "site_id": str(site.id)}
        registry.save_machine(session, ADMIN, form, NOW)
    with sessions.command() as session:
        record_findings(session, [_finding("R04", "heating", "no_heat", 1)], NOW)
    with sessions.command() as session:
        record_findings(session, [_finding("R26", "code", cause, 2)], NOW)
    with sessions.read() as session:
        tickets = query.all_tickets(session)
        assert [ticket.family for ticket in tickets] == families
        assert tickets[0].occurrences == 3 - len(families)
    engine.dispose()
