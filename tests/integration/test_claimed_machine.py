"""From a label to a ticket: a machine gets its account, speaks before anybody has registered it, and is claimed while it goes
on speaking. On the production broker, with a gateway of its own process."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from sqlalchemy import select

from cli.devices import GATEWAY
from domain import wire
from domain.clock import SystemClock
from domain.desk.actor import SHELL
from domain.desk.registry import save_machine
from domain.desk.strangers import dismiss
from domain.store import strangers
from domain.store.tables import StrangerRow, Ticket
from domain.telemetry.sqlite import SqliteTelemetry
from tests.guarded_broker import GATEWAY_PASSWORD, GuardedMosquitto, connected
from tests.integration.gateway_fleet import GatewayProcess, now_ms
from tests.servers import PostgreSQL, ServerMissingError, do_without, wait_until
from tests.unit.gateway.plant import START, T0, Plant, prepare

pytestmark = pytest.mark.integration
SERIAL, BEFORE, AFTER, STEP_MS = "NEW-1", 500, 100, 1000


def test_all_that_a_machine_said_before_and_while_it_was_claimed_is_stored_and_judged(tmp_path: Path) -> None:
    try:
        broker = GuardedMosquitto()
    except ServerMissingError as error:
        do_without("mosquitto", error)
    (tmp_path / "data").mkdir()
    (tmp_path / "password").write_text(GATEWAY_PASSWORD)
    sessions = prepare(f"sqlite:///{tmp_path / 'data' / 'brewair.db'}")
    t0 = now_ms() // 1000 * 1000 - (BEFORE + AFTER) * STEP_MS

    def payload(number: int) -> str:
        sample = {
            "ts": t0 + number * STEP_MS, "boot": "b", "seq": number, "power_w": 6.0, "voltage_v": 380.0, "run_state": "fault",
            "fault_code": "E4",
        }  # fmt: skip
        return orjson.dumps(sample).decode()

    def stranger() -> StrangerRow | None:
        with sessions.read() as session:
            return session.scalar(select(StrangerRow))

    def is_held(count: int) -> bool:
        row = stranger()
        return row is not None and row.held == count

    def is_in() -> bool:
        row = stranger()
        return row is not None and row.state == strangers.ADMITTED

    with broker:
        broker.provision(SERIAL)
        settings = {
            "BREWAIR_MQTT_URL": broker.url,
            "BREWAIR_MQTT_USER": GATEWAY,
            "BREWAIR_MQTT_PASSWORD_FILE": str(tmp_path / "password"),
        }
        with GatewayProcess(tmp_path, **settings) as gateway, connected(broker, SERIAL, SERIAL) as device:
            gateway.wait_connected()
            topic = wire.up("soymilk", SERIAL, "telemetry")
            for number in range(BEFORE):
                device.client.publish(topic, payload(number), qos=1)
            wait_until(lambda: is_held(BEFORE), timeout_s=60, what="everything to be held")
            with sessions.read() as session:
                assert session.scalars(select(Ticket)).all() == []
            with sessions.command() as session:
                form = {"serial": SERIAL, "type": "soymilk", "model": "SMM-60", "site_id": "1"}
                save_machine(session, SHELL, form, SystemClock().now())
            for number in range(BEFORE, BEFORE + AFTER):
                device.publish(topic, payload(number))
            wait_until(is_in, timeout_s=60, what="the machine to be taken in")
            telemetry = SqliteTelemetry(tmp_path / "data" / "telemetry.db")
            telemetry.setup()
            wanted = [t0 + number * STEP_MS for number in range(BEFORE + AFTER)]

            def stored() -> list[int]:
                return [row.ts for row in telemetry.range(SERIAL, "soymilk", t0, now_ms())]

            wait_until(lambda: stored() == wanted, timeout_s=60, what="every sample in the telemetry store")

            def tickets() -> list[Ticket]:
                with sessions.read() as session:
                    return list(session.scalars(select(Ticket)))

            (ticket,) = wait_until(tickets, timeout_s=30, what="the ticket")
            assert ticket.serial == SERIAL
            assert gateway.stop() == 0
        telemetry.close()
    row = stranger()
    assert row is not None
    assert (row.beyond, row.held, row.taken) == (0, 0, row.heard)
    assert row.heard >= BEFORE
    sessions.engine.dispose()


def test_postgresql_holds_admits_and_gives_up_as_sqlite_does(tmp_path: Path, postgresql: PostgreSQL) -> None:
    plant = Plant(tmp_path, prepare(postgresql.fresh_database()))
    plant.samples("NEW-1", range(0, 100, 5))
    plant.samples("NEW-2", range(0, 100, 5))
    plant.pipeline.ingest([("tele/plug/SENSOR", b"{}", T0)])
    plant.tick(101)
    form = {"serial": "NEW-1", "type": "soymilk", "model": "SMM-60", "site_id": "1"}
    with plant.sessions.command() as session:
        save_machine(session, SHELL, form, START)
        second = next(row for row in strangers.known(session) if row.serial == "NEW-2")
        assert dismiss(session, SHELL, second.id, START) == 20
    plant.pipeline.refresh_registry()
    plant.tick(102)
    with plant.sessions.read() as session:
        found = {
            row.name: (row.state, row.held, row.taken, row.dismissed) for row in session.scalars(select(StrangerRow))
        }
    assert found == {
        "soymilk/NEW-1": ("admitted", 0, 20, 0), "soymilk/NEW-2": ("dismissed", 0, 0, 20), "plug": ("waiting", 1, 0, 0),
    }  # fmt: skip
    plant.pipeline.drain()
    assert len(plant.telemetry.range("NEW-1", "soymilk", T0, T0 + 100_000)) == 20
    plant.sessions.engine.dispose()
