"""Gateway and portal on one SQLite file: 500 readings/s and 20 portal commands/s at the same time, and nobody is locked out."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from starlette.testclient import TestClient

from domain import wire
from domain.clock import SystemClock
from domain.desk import registry
from domain.desk.actor import Actor
from domain.desk.intake import Call, open_from_call
from domain.settings import load
from domain.store import schema
from domain.store.queries import registry as records
from domain.store.queries import tickets as query
from domain.store.session import Sessions, open_engine
from domain.telemetry.sqlite import SqliteTelemetry
from domain.tickets.states import Kind, Role
from portal.app import create_app
from tests.integration.gateway_fleet import GatewayProcess, Publisher, now_ms
from tests.portal_site import log_in, password_hash, token_in
from tests.servers import Mosquitto, wait_until

pytestmark = pytest.mark.integration

SECONDS = 60 if os.environ.get("BREWAIR_FULL") else 15
MACHINES = 50
READINGS_PER_S = 500
COMMANDS_PER_S = 20
ADMIN = Actor("test", frozenset((Role.ADMIN, Role.OPERATOR, Role.DISPATCHER)))


def _seed(sessions: Sessions) -> list[int]:
    """Fifty machines with an open ticket each, two technicians, a dispatcher; gives the ids of the tickets."""
    now = datetime.now(UTC)
    with sessions.command() as session:
        customer = registry.save_customer(session, ADMIN, {"name": "c"}, now)
        site = registry.save_site(session, ADMIN, {"name": "s", "customer_id": str(customer.id), "demo": "1"}, now)
        tickets = []
        for k in range(MACHINES):
            form = {"serial": f"LOAD-{k:03d}", "type": "soymilk", "model": "SMM-60", "site_id": str(site.id)}
            registry.save_machine(session, ADMIN, form, now)
            call = Call(Kind.REPAIR, "不热", "王", "", serial=form["serial"])
            tickets.append(open_from_call(session, ADMIN, call, now)[0].id)
        for login, role in (("dispatcher", "dispatcher"), ("tech1", "technician"), ("tech2", "technician")):
            form = {"login": login, "name": login, "roles": role, "skills": "soymilk"}
            registry.save_person(session, ADMIN, form, now, password_hash=password_hash())
    return tickets


class Load(threading.Thread):
    """Publishes a steady 500 readings/s of fifty machines."""

    def __init__(self, publisher: Publisher, stop: threading.Event) -> None:
        super().__init__()
        self.publisher, self.stop_it, self.sent = publisher, stop, 0

    def run(self) -> None:
        began, step = time.monotonic(), 0
        while not self.stop_it.wait(max(0.0, began + step * 0.1 - time.monotonic())):
            for k in range(READINGS_PER_S // 10):
                self.sent += 1
                ts = now_ms() - MACHINES + k
                body = {"ts": ts, "boot": "b", "seq": self.sent, "power_w": 9.0, "voltage_v": 380.0, "temp_c": 22.0}
                serial = f"LOAD-{k % MACHINES:03d}"
                topic = wire.up("soymilk", serial, "telemetry")
                self.publisher.publish(topic, orjson.dumps(body), [(serial, ts)])
            step += 1


def test_readings_and_commands_share_one_sqlite_file(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """No command is refused because the database is locked, every answer is a redirect, and every reading is stored."""
    data = tmp_path / "data"
    settings = load({"BREWAIR_DATA_DIR": str(data), "BREWAIR_MQTT_URL": mosquitto.url})
    engine = open_engine(settings.database_url)
    schema.upgrade(engine)
    sessions = Sessions(engine)
    tickets = _seed(sessions)
    with sessions.read() as session:
        people = [person.id for person in records.people(session, role=Role.TECHNICIAN)]
    telemetry = SqliteTelemetry(data / "telemetry.db")
    telemetry.setup()
    client = TestClient(create_app(settings, SystemClock(), sessions, telemetry))
    assert log_in(client, "dispatcher").status_code == 303
    csrf = token_in(client.get("/board"))

    gateway = GatewayProcess(tmp_path, BREWAIR_MQTT_URL=mosquitto.url)
    stop, statuses, slowest = threading.Event(), [], 0.0
    with gateway:
        gateway.wait_connected()
        publisher = Publisher(mosquitto, "load")
        load_thread = Load(publisher, stop)
        load_thread.start()
        began = time.monotonic()
        for n in range(SECONDS * COMMANDS_PER_S):
            stop.wait(max(0.0, began + n / COMMANDS_PER_S - time.monotonic()))
            ticket_id, turn = tickets[n % len(tickets)], n // len(tickets)
            action = "visit_needed" if turn == 0 else "assign" if turn == 1 else "reassign"
            with sessions.read() as session:
                version = query.ticket(session, ticket_id).version
            form = {
                "csrf": csrf,
                "version": str(version),
                "assignee": str(people[turn % 2]),
                "reason": "负荷测试",
            }
            at = time.monotonic()
            answer = client.post(f"/tickets/{ticket_id}/{action}", data=form, follow_redirects=False)
            slowest = max(slowest, time.monotonic() - at)
            statuses.append(answer.status_code)
        elapsed = time.monotonic() - began
        stop.set()
        load_thread.join()
        publisher.flush()
        wait_until(lambda: _points(telemetry) >= publisher.acked, timeout_s=60, what="every acknowledged reading")
        locked = gateway.said("sql_unavailable") + gateway.said("telemetry_unavailable")
    publisher.close()
    print(
        f"\n{load_thread.sent / elapsed:.0f} readings/s and {len(statuses) / elapsed:.1f} commands/s for {elapsed:.0f} s; "
        f"slowest command {slowest * 1000:.0f} ms; {locked} times locked"
    )
    assert set(statuses) == {303}
    assert locked == 0
    with sessions.read() as session:
        assert len(query.timeline(session, tickets[0])) == 1 + SECONDS * COMMANDS_PER_S // len(tickets)
    engine.dispose()


def _points(telemetry: SqliteTelemetry) -> set[tuple[str, int]]:
    found = set()
    for k in range(MACHINES):
        serial = f"LOAD-{k:03d}"
        found.update((serial, row.ts) for row in telemetry.range(serial, "soymilk", 0, now_ms() + 60_000))
    return found
