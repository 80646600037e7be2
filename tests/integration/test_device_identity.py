"""A machine is who it says it is: accounts made by ``brewair admin devices`` on the production broker, and whoever tries to be
somebody else."""

from __future__ import annotations

import json
import queue
import ssl
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from cli.devices import ADMIN, GATEWAY
from cli.dynsec import Role
from domain import wire
from gateway.adapters.sparkplug import SparkplugAdapter
from gateway.messages import Message, Registry, Unit
from tests.certificates import Authority
from tests.guarded_broker import Connection, GuardedMosquitto, connect_answer, connected
from tests.servers import ServerMissingError, do_without, free_port, wait_until

pytestmark = pytest.mark.integration

TLS = """\
listener {port} 127.0.0.1
cafile {folder}/ca.crt
certfile {folder}/server.crt
keyfile {folder}/server.key
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def broker(authority: Authority, tls_port: int) -> Iterator[GuardedMosquitto]:
    """The production broker with the TLS listener of its README."""
    authority.issue("server")
    try:
        server = GuardedMosquitto(TLS.format(port=tls_port, folder=authority.folder))
    except ServerMissingError as error:
        do_without("mosquitto", error)
    with server:
        server.provision("SM-1")
        server.provision("SM-2")
        yield server


def up(serial: str) -> str:
    return wire.up("soymilk", serial, "telemetry")


def down(serial: str) -> str:
    return wire.down_command("soymilk", serial)


# ---------------------------------------------------------------------------------------------------------------- secrets


def test_the_readme_has_this_listener() -> None:
    readme = (Path(__file__).parents[2] / "mosquitto" / "README.md").read_text(encoding="utf-8")
    for line in TLS.splitlines()[4:]:
        assert f"\n{line}\n" in readme


@pytest.mark.parametrize(
    ("user", "password"), [(None, None), ("SM-1", "wrong"), ("SM-1", ""), ("SM-404", "x"), (ADMIN, "admin")]
)
def test_the_anonymous_and_the_wrong_are_refused(
    broker: GuardedMosquitto, user: str | None, password: str | None
) -> None:
    assert connect_answer(broker, user, password, user or "anybody") == "Not authorized"


def test_the_secret_of_another_is_the_wrong_one(broker: GuardedMosquitto) -> None:
    assert connect_answer(broker, "SM-1", broker.passwords["SM-2"], "SM-1") == "Not authorized"
    assert connect_answer(broker, "SM-1", broker.passwords["SM-1"], "SM-1") == "Success"


def test_a_secret_is_printed_once_and_kept_nowhere(broker: GuardedMosquitto, tmp_path: Path) -> None:
    drawn = tmp_path / "label.svg"
    said = broker.admin(
        "provision", "SM-20", "--type", "soymilk", "--qr", str(drawn), "--url", "mqtts://mqtt.example:8883"
    )
    facts = dict(line.split(maxsplit=1) for line in said.replace("client id", "client_id").splitlines()[:5])
    secret = facts["password"]
    assert facts == {
        "url": "mqtts://mqtt.example:8883", "user": "SM-20", "client_id": "SM-20", "password": secret,
        "prefix": wire.prefix("soymilk", "SM-20"),
    }  # fmt: skip
    assert len(secret) >= 32
    assert said.count(secret) == 1
    assert "▀" in said, "a QR code for a telephone"
    assert stat.S_IMODE(drawn.stat().st_mode) == 0o600
    assert b"<svg" in drawn.read_bytes()
    for again in (broker.admin("list"), broker.admin("list", "--json"), broker.admin("provision", "SM-20", status=2)):
        assert "SM-20" in again or "account already" in again
        assert secret not in again
    broker.stop()  # writes everything that it keeps
    files = [path for path in broker.folder.rglob("*") if path.is_file()]
    assert any(b"SM-20" in path.read_bytes() for path in files)
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    broker.start()
    assert connect_answer(broker, "SM-20", secret, "SM-20") == "Success"


def test_what_cannot_be_drawn_or_read_is_refused_before_an_account_is_made(
    broker: GuardedMosquitto, tmp_path: Path
) -> None:
    assert "gif" in broker.admin("provision", "SM-21", "--type", "soymilk", "--qr", "x.gif", status=2)
    assert "written" in broker.admin(
        "provision", "SM-21", "--type", "soymilk", "--qr", str(tmp_path / "no" / "x.png"), status=2
    )
    assert "register it first" in broker.admin("provision", "SM-21", status=2)
    assert "no account" in broker.admin("rotate", "SM-21", status=2)
    assert "no account" in broker.admin("revoke", "SM-21", status=2)
    assert "no account" in broker.admin("revoke", GATEWAY, status=2), "a program is no device"
    assert "SM-21" not in broker.admin("list")
    picture = tmp_path / "x.png"
    broker.admin("provision", "SM-21", "--type", "soymilk", "--qr", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_rotating_ends_the_old_secret_and_the_connection(broker: GuardedMosquitto) -> None:
    old = broker.provision("SM-22")["password"]
    with connected(broker, "SM-22", "SM-22") as device:
        device.client.reconnect_delay_set(60, 60)
        new = json.loads(broker.admin("rotate", "SM-22", "--json"))["password"]
        wait_until(lambda: not device.client.is_connected(), what="the old connection to end")
    assert connect_answer(broker, "SM-22", old, "SM-22") == "Not authorized"
    assert connect_answer(broker, "SM-22", new, "SM-22") == "Success"


def test_a_revoked_account_is_refused_and_its_connection_ends(broker: GuardedMosquitto) -> None:
    broker.provision("SM-23")
    with connected(broker, "SM-23", "SM-23") as device:
        device.client.reconnect_delay_set(60, 60)
        broker.admin("revoke", "SM-23")
        wait_until(lambda: not device.client.is_connected(), what="the revoked connection to end")
    assert connect_answer(broker, "SM-23", broker.passwords["SM-23"], "SM-23") == "Not authorized"
    assert "SM-23" not in broker.admin("list")
    broker.provision("SM-23")
    assert connect_answer(broker, "SM-23", broker.passwords["SM-23"], "SM-23") == "Success"


def test_who_does_not_know_the_administrators_password_makes_no_account(
    broker: GuardedMosquitto, tmp_path: Path
) -> None:
    right = broker.folder / "admin_password"
    kept = right.read_text()
    try:
        right.write_text("wrong")
        assert "does not let service.admin in" in broker.admin("provision", "SM-24", "--type", "soymilk", status=2)
        right.write_text(broker.passwords["SM-1"])
        said = broker.admin("provision", "SM-24", "--type", "soymilk", "--admin-user", "SM-1", status=2)
        assert "does not let SM-1 in" in said, "its client id is another"
        right.write_text(broker.passwords[GATEWAY])
        said = broker.admin("provision", "SM-24", "--type", "soymilk", "--admin-user", GATEWAY, status=2)
        assert "does not administrate" in said
    finally:
        right.write_text(kept)


# ------------------------------------------------------------------------------------------------------- somebody else's


def test_a_forged_topic_is_delivered_to_nobody(broker: GuardedMosquitto) -> None:
    with connected(broker, GATEWAY, "gw-1") as gateway, connected(broker, "SM-2", "SM-2") as thief:
        gateway.subscribe(wire.UP_FILTER)
        for kind in wire.UP_KINDS:
            thief.publish(wire.up("soymilk", "SM-1", kind), "forged")
        thief.publish(up("SM-2"), "own")
        assert gateway.next() == (up("SM-2"), "own")


def test_another_s_commands_cannot_be_read(broker: GuardedMosquitto) -> None:
    with (
        connected(broker, GATEWAY, "gw-2") as gateway,
        connected(broker, "SM-1", "SM-1") as owner,
        connected(broker, "SM-2", "SM-2") as thief,
    ):
        owner.subscribe(f"{wire.prefix('soymilk', 'SM-1')}/down/#")
        thief.subscribe(f"{wire.prefix('soymilk', 'SM-1')}/down/#", granted=False)
        thief.subscribe(down("SM-1"), granted=False)
        thief.subscribe(f"{wire.prefix('soymilk', 'SM-2')}/down/#")
        gateway.publish(down("SM-1"), "secret")
        gateway.publish(down("SM-2"), "for the thief")
        assert owner.next() == (down("SM-1"), "secret")
        assert thief.next() == (down("SM-2"), "for the thief")


def test_the_gateway_may_ask_an_edge_node_for_its_birth_and_for_nothing_else(broker: GuardedMosquitto) -> None:
    edge = Role("edge.1", write=("spBv1.0/canteen/+/edge-1/#",), read=("spBv1.0/canteen/NCMD/edge-1",))
    with broker.control() as control:
        control.save_role(edge)
        control.do("createClient", username="edge.1", password="p", roles=[{"rolename": edge.name}])
    broker.passwords["edge.1"] = "p"
    adapter = SparkplugAdapter()
    bound = Registry.of([Unit("SM-1", "soymilk", "", convention="sparkplug", topic="canteen/edge-1/pot")])
    adapter.decode(Message("spBv1.0/canteen/NDATA/edge-1", b"", 0), bound, Counter())
    (request,) = adapter.requests()
    with connected(broker, GATEWAY, "gw-7") as gateway, connected(broker, "edge.1", "edge-1") as node:
        node.subscribe(request.topic)
        gateway.publish("spBv1.0/canteen/DDATA/edge-1/pot", "forged")
        gateway.client.publish(request.topic, request.payload, qos=1)
        topic, said = node.next()
        assert (topic, "Node Control/Rebirth" in said) == (request.topic, True)


def test_a_stolen_client_id_is_refused_and_the_owner_keeps_its_session(broker: GuardedMosquitto) -> None:
    with connected(broker, GATEWAY, "gw-3") as gateway, connected(broker, "SM-1", "SM-1") as owner:
        lost: list[object] = []
        owner.client.on_disconnect = lambda *told: lost.append(told)
        gateway.subscribe(wire.UP_FILTER)
        assert connect_answer(broker, "SM-2", broker.passwords["SM-2"], "SM-1") == "Not authorized"
        assert connect_answer(broker, None, None, "SM-1") == "Not authorized"
        owner.publish(up("SM-1"), "still here")
        assert gateway.next() == (up("SM-1"), "still here")
        assert not lost


# ----------------------------------------------------------------------------------------------------------- certificates


class Certified(Connection):
    """A client with a certificate and no password."""

    def __init__(self, port: int, authority: Authority, files: tuple[Path, Path], client_id: str) -> None:
        self.received = queue.Queue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        self.client.tls_set(str(authority.certificate), str(files[0]), str(files[1]))
        self.listen("127.0.0.1", port)


@contextmanager
def certified(port: int, authority: Authority, name: str, client_id: str = "") -> Iterator[Certified]:
    connection = Certified(port, authority, authority.issue(name), client_id or name)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def machines(broker: GuardedMosquitto) -> Iterator[None]:
    """Two machines that log in by certificate."""
    for serial in ("SM-31", "SM-32"):
        made = broker.provision(serial, "--certificate")
        assert made["password"] == ""
    yield
    for serial in ("SM-31", "SM-32"):
        broker.admin("revoke", serial)


def test_the_certificate_of_another_cannot_publish_for_this_one(
    broker: GuardedMosquitto, authority: Authority, tls_port: int, machines: None
) -> None:
    with (
        connected(broker, GATEWAY, "gw-4") as gateway,
        certified(tls_port, authority, "SM-31") as owner,
        certified(tls_port, authority, "SM-32") as thief,
    ):
        gateway.subscribe(wire.UP_FILTER)
        thief.publish(up("SM-31"), "forged")
        thief.subscribe(down("SM-31"), granted=False)
        thief.publish(up("SM-32"), "own")
        owner.publish(up("SM-31"), "its own")
        assert {gateway.next(), gateway.next()} == {(up("SM-32"), "own"), (up("SM-31"), "its own")}


def test_the_certificate_is_the_client_id_whatever_the_client_calls_itself(
    broker: GuardedMosquitto, authority: Authority, tls_port: int, machines: None
) -> None:
    with connected(broker, GATEWAY, "gw-5") as gateway, certified(tls_port, authority, "SM-31") as owner:
        lost: list[object] = []
        owner.client.on_disconnect = lambda *told: lost.append(told)
        gateway.subscribe(wire.UP_FILTER)
        with certified(tls_port, authority, "SM-32", client_id="SM-31") as thief:
            thief.publish(up("SM-31"), "forged")
            thief.publish(up("SM-32"), "own")
            owner.publish(up("SM-31"), "still here")
            assert {gateway.next(), gateway.next()} == {(up("SM-32"), "own"), (up("SM-31"), "still here")}
        assert not lost


def test_a_certificate_without_an_account_or_of_another_authority_is_worth_nothing(
    broker: GuardedMosquitto, authority: Authority, tls_port: int, machines: None, tmp_path: Path
) -> None:
    with connected(broker, GATEWAY, "gw-6") as gateway, certified(tls_port, authority, "SM-31") as owner:
        gateway.subscribe(wire.UP_FILTER)
        with certified(tls_port, authority, "SM-404") as nobody:
            nobody.publish(up("SM-404"), "no account")
            nobody.publish(up("SM-31"), "forged")
        owner.publish(up("SM-31"), "its own")
        assert gateway.next() == (up("SM-31"), "its own")
    foreign = Authority(tmp_path / "foreign").issue("SM-31")
    with pytest.raises((ssl.SSLError, OSError, TimeoutError)):
        Certified(tls_port, authority, foreign, "SM-31").close()
    assert greeting_without_certificate(tls_port, authority) == []


def greeting_without_certificate(port: int, authority: Authority) -> list[object]:
    """What the broker says to somebody who has no certificate, until it ends the connection."""
    greeted: list[object] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="SM-31")
    client.tls_set(str(authority.certificate))
    client.on_connect = lambda *told: greeted.append(told)
    with suppress(OSError):
        client.connect("127.0.0.1", port)
        while not greeted and client.loop(timeout=1.0) == mqtt.MQTT_ERR_SUCCESS:
            pass
    return greeted


def test_an_account_for_a_certificate_has_no_password(broker: GuardedMosquitto, machines: None) -> None:
    for password in ("", "SM-31", "x"):
        assert connect_answer(broker, "SM-31", password, "SM-31") == "Not authorized"
    assert "by its certificate" in broker.admin("rotate", "SM-31", status=2)
    lines = {line["serial"]: line for line in map(json.loads, broker.admin("list", "--json").splitlines()[:-1])}
    assert lines["SM-31"]["login"] == "certificate"
    assert (lines["SM-1"]["login"], lines["SM-1"]["registered"]) == ("password", False)
    assert lines["SM-1"]["prefix"] == wire.prefix("soymilk", "SM-1")
