"""The production configuration of the broker, run by the real broker with other paths and another port."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from cli.devices import GATEWAY
from domain import wire
from gateway.adapters.registry import ADAPTERS
from tests.guarded_broker import FOLDER, Connection, GuardedMosquitto, connect_answer, connected
from tests.servers import ServerMissingError, do_without, wait_until

pytestmark = pytest.mark.integration

OTHER = "SM-2"


@pytest.fixture(scope="module")
def broker() -> Iterator[GuardedMosquitto]:
    try:
        server = GuardedMosquitto()
    except ServerMissingError as error:
        do_without("mosquitto", error)
    with server:
        for serial in ("SM-1", OTHER):
            server.provision(serial)
        yield server


@pytest.mark.parametrize(
    ("user", "password"), [(None, None), ("SM-1", "wrong"), ("SM-1", OTHER), ("SM-1", ""), ("SM-9", OTHER)]
)
def test_nobody_comes_in_without_a_right_password(
    broker: GuardedMosquitto, user: str | None, password: str | None
) -> None:
    assert connect_answer(broker, user, password, user or "stranger") == "Not authorized"


def test_a_right_password_comes_in(broker: GuardedMosquitto) -> None:
    assert connect_answer(broker, "SM-1", broker.passwords["SM-1"], "SM-1") == "Success"


OWN, THEIRS = wire.prefix("soymilk", "SM-1"), wire.prefix("soymilk", OTHER)


def test_a_device_is_heard_on_its_own_topic_and_on_no_other(broker: GuardedMosquitto) -> None:
    with connected(broker, GATEWAY, "gw-1") as gateway, connected(broker, "SM-1", "SM-1") as device:
        gateway.subscribe(wire.UP_FILTER)
        gateway.subscribe("#", granted=False)
        for forged in (
            f"{THEIRS}/up/telemetry",
            f"{OWN}x/up/telemetry",
            wire.up("freshair", "SM-1", "telemetry"),
            f"brewair/v1/SM-1/soymilk/{OTHER}/up/telemetry",
            f"{OWN}/down/command",
            f"{OWN.replace('v1', 'v2')}/up/telemetry",
            "tele/kitchen/SENSOR",
            "$CONTROL/dynamic-security/v1",
            "anything/else",
        ):
            device.publish(forged, "forged")
        device.publish(f"{OWN}/up/telemetry", "own")
        device.publish(f"{OWN}/up/status", "online")
        # One publisher's messages keep their order: the forged ones would have come first.
        assert gateway.next() == (f"{OWN}/up/telemetry", "own")
        assert gateway.next() == (f"{OWN}/up/status", "online")


@pytest.mark.parametrize("serial", ["+", "#", "a/b", "service.gateway", "", "SM 1", "x" * 65])
def test_no_device_is_named_like_a_wildcard_or_a_program(broker: GuardedMosquitto, serial: str) -> None:
    assert "is not a serial number" in broker.admin("provision", serial, "--type", "soymilk", status=2)


def test_a_command_reaches_its_device_and_nobody_else(broker: GuardedMosquitto) -> None:
    with (
        connected(broker, GATEWAY, "gw-3") as gateway,
        connected(broker, "SM-1", "SM-1") as first,
        connected(broker, OTHER, OTHER) as second,
    ):
        for wanted in ("#", "$CONTROL/#", wire.DOWN_FILTER, f"{OWN}/down/#", f"{OWN}/down/command", wire.UP_FILTER):
            second.subscribe(wanted, granted=False)
        second.subscribe(f"{THEIRS}/down/#")
        first.subscribe(f"{OWN}/down/#")
        gateway.publish(f"{OWN}/down/command", "for the first")
        gateway.publish(f"{THEIRS}/down/command", "for the second")
        assert first.next()[1] == "for the first"
        assert second.next()[1] == "for the second"


def test_the_gateway_hears_machines_and_sends_commands_and_does_nothing_else(broker: GuardedMosquitto) -> None:
    with connected(broker, GATEWAY, "gw-4") as gateway, connected(broker, "SM-1", "SM-1") as device:
        for adapter in ADAPTERS.values():
            for wanted in adapter.filters:
                gateway.subscribe(wanted)
        gateway.subscribe("brewair/v1/03/+/+/up/#")
        for refused in (wire.DOWN_FILTER, "$CONTROL/#", "anything/else", "brewair/#"):
            gateway.subscribe(refused, granted=False)
        for forged in (f"{OWN}/up/telemetry", "tele/kitchen/SENSOR", "cmnd/kitchen/OtaUrl", "plug/events/rpc"):
            gateway.publish(forged, "forged")
        device.publish(f"{OWN}/up/telemetry", "own")
        assert gateway.next()[1] == "own"


def test_nothing_is_lost_while_the_gateway_is_away_and_the_broker_restarts(broker: GuardedMosquitto) -> None:
    count = 5000  # five times what the broker's default queue holds
    gateway = Connection(broker, GATEWAY, "gw-away", keep_session=True)
    gateway.subscribe(wire.UP_FILTER)
    gateway.close()

    with connected(broker, "SM-1", "SM-1") as device:
        sent = [device.client.publish(f"{OWN}/up/telemetry", str(number), qos=1) for number in range(count)]
        for message in sent:
            message.wait_for_publish(timeout=60)

    broker.stop()
    broker.start()

    gateway = Connection(broker, GATEWAY, "gw-away", keep_session=True)
    try:
        wait_until(lambda: gateway.received.qsize() >= count, timeout_s=60, what=f"{count} queued messages")
        assert {int(gateway.next()[1]) for _ in range(count)} == set(range(count))
    finally:
        gateway.close()


def test_the_readme_explains_every_setting() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    settings = {
        line.split()[0]
        for line in (FOLDER / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    explained = set(re.findall(r"`([a-z_]+)", "".join(re.findall(r"^\| (`.*?) \|", readme, re.MULTILINE))))
    assert settings == explained
