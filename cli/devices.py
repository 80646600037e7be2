"""``brewair admin devices``: who may come to the broker. A machine's account is its serial number, and its secret is printed
once and kept nowhere: the broker has a salted hash of it.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import segno
import typer
from sqlalchemy.orm import Session

from cli.dynsec import DynamicSecurity, Role
from domain import settings, wire
from domain.catalogue.registry import EQUIPMENT
from domain.clock import SystemClock
from domain.desk import registry
from domain.desk.actor import SHELL
from domain.desk.door import journal
from domain.desk.strangers import dismiss
from domain.errors import InvalidError, NotFoundError, RefusedError
from domain.settings import Settings
from domain.store import schema, strangers
from domain.store.queries import registry as query
from domain.store.session import Sessions, open_engine
from gateway.adapters.registry import ADAPTERS

app = typer.Typer(
    help="Machines' accounts at the broker, and machines that nobody has registered.", no_args_is_help=True
)

ADMIN, GATEWAY, SIMULATOR = "service.admin", "service.gateway", "service.simulator"
SECRET_BYTES = 24
DRAWN = (".svg", ".png")
BY_CERTIFICATE = "by certificate"
"""Note on an account that has no password."""
WITHOUT = "none: it logs in by its certificate, whose common name is the serial number"
EVERY_MACHINE, EVERY_COMMAND = (wire.UP_FILTER,), (wire.DOWN_FILTER,)

Serial = Annotated[str, typer.Argument(metavar="SERIAL", help="Serial number; it is user name and client id.")]
AdminUser = Annotated[str, typer.Option(help="Who administrates the broker's accounts.")]
AdminFile = Annotated[Path, typer.Option("--admin-password-file", help="File that holds the administrator's password.")]
Url = Annotated[str, typer.Option(help="Address at which devices reach the broker; default BREWAIR_MQTT_URL.")]
QrFile = Annotated[
    Path | None, typer.Option("--qr", help="The QR code into a file too, .svg or .png, only you can read.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]


def device_role(equipment_type: str, serial: str) -> Role:
    """A machine speaks below its own serial number, and hears what is sent down to it."""
    prefix = wire.prefix(equipment_type, serial)
    return Role(f"device.{serial}", write=(f"{prefix}/up/#",), read=(f"{prefix}/down/#",))


def gateway_role() -> Role:
    """The gateway hears every machine and sends commands; it cannot speak in a machine's name."""
    adapters = list(ADAPTERS.values())
    return Role(
        "gateway",
        write=(*(one for adapter in adapters for one in adapter.commands), "brewair/doctor/#"),
        read=(*(one for adapter in adapters for one in adapter.filters), "$SYS/broker/#", "brewair/doctor/#"),
    )


SIMULATOR_ROLE = Role("simulator", write=EVERY_MACHINE, read=EVERY_COMMAND)
"""Simulated machines share one connection; for demonstrations only."""


@app.command()
def setup(
    admin_password_file: AdminFile,
    admin_user: AdminUser = ADMIN,
    gateway_password_file: Annotated[Path | None, typer.Option(help=f"Gives {GATEWAY} this password.")] = None,
    simulator_password_file: Annotated[Path | None, typer.Option(help=f"Gives {SIMULATOR} this password.")] = None,
) -> None:
    """Set up roles and programs' accounts; done again, it changes nothing else."""
    programs = (
        (GATEWAY, gateway_role(), gateway_password_file),
        (SIMULATOR, SIMULATOR_ROLE, simulator_password_file),
    )
    passwords = {user: _secret(file) for user, _, file in programs if file is not None}
    with _broker(settings.load(), admin_user, admin_password_file) as broker:
        refused = [
            {"acltype": kind, "allow": False} for kind in ("publishClientSend", "publishClientReceive", "subscribe")
        ]
        broker.do("setDefaultACLAccess", acls=refused)
        for user, role, _ in programs:
            if user not in passwords:
                continue
            broker.save_role(role)
            if not broker.attempt(
                "createClient", username=user, password=passwords[user], roles=[{"rolename": role.name}]
            ):
                broker.do("modifyClient", username=user, password=passwords[user], roles=[{"rolename": role.name}])
            typer.echo(f"{user} may come in")


@app.command()
def provision(
    serial: Serial,
    admin_password_file: AdminFile,
    admin_user: AdminUser = ADMIN,
    type: Annotated[str, typer.Option(help="Equipment type, where the machine is not registered yet.")] = "",
    certificate: Annotated[bool, typer.Option(help="It logs in by its client certificate: no password.")] = False,
    url: Url = "",
    qr: QrFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a machine's account and print its secret, once."""
    given = settings.load()
    _drawable(qr)
    secret = "" if certificate else secrets.token_urlsafe(SECRET_BYTES)
    with _broker(given, admin_user, admin_password_file) as broker, _sessions(given).command() as session:
        kind = _type_of(session, serial, type)
        if broker.account(serial) is not None:
            raise RefusedError("{serial} has an account already; rotate gives it a new secret", serial=serial)
        journal(session, SystemClock().now(), SHELL, "device_provisioned", serial=serial, detail={"type": kind})
        role = device_role(kind, serial)
        broker.save_role(role)
        broker.do(
            "createClient", username=serial, clientid=serial, textname=kind,
            textdescription=BY_CERTIFICATE if certificate else "", roles=[{"rolename": role.name}],
            **({} if certificate else {"password": secret}),
        )  # fmt: skip
    _tell(serial, kind, secret, url or given.mqtt_url, qr, as_json)


@app.command()
def rotate(
    serial: Serial,
    admin_password_file: AdminFile,
    admin_user: AdminUser = ADMIN,
    url: Url = "",
    qr: QrFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a machine a new secret; the old one is worth nothing from now on, and its connection ends."""
    given = settings.load()
    _drawable(qr)
    secret = secrets.token_urlsafe(SECRET_BYTES)
    with _broker(given, admin_user, admin_password_file) as broker, _sessions(given).command() as session:
        account = _account(broker, serial)
        if account.get("textdescription") == BY_CERTIFICATE:
            raise RefusedError("{serial} logs in by its certificate; give it a new one", serial=serial)
        journal(session, SystemClock().now(), SHELL, "device_secret_rotated", serial=serial)
        broker.do("setClientPassword", username=serial, password=secret)
    _tell(serial, str(account.get("textname", "")), secret, url or given.mqtt_url, qr, as_json)


@app.command()
def revoke(serial: Serial, admin_password_file: AdminFile, admin_user: AdminUser = ADMIN) -> None:
    """Take a machine's account away; its connection ends, and it does not come in again."""
    given = settings.load()
    with _broker(given, admin_user, admin_password_file) as broker, _sessions(given).command() as session:
        _account(broker, serial)
        journal(session, SystemClock().now(), SHELL, "device_revoked", serial=serial)
        broker.do("deleteClient", username=serial)
        broker.attempt("deleteRole", rolename=f"device.{serial}")
    typer.echo(f"{serial} does not come in any more")


@app.command("list")
def show_list(admin_password_file: AdminFile, admin_user: AdminUser = ADMIN, as_json: AsJson = False) -> None:
    """The machines that have an account."""
    given = settings.load()
    with _broker(given, admin_user, admin_password_file) as broker:
        accounts = [one for one in broker.accounts() if _is_device(str(one["username"]), one)]
    with _sessions(given).read() as session:
        registered = {str(one["username"]): query.machine_or_none(session, str(one["username"])) for one in accounts}
    for one in accounts:
        serial, kind = str(one["username"]), str(one.get("textname", ""))
        facts = {
            "serial": serial, "type": kind, "prefix": wire.prefix(kind, serial),
            "login": "certificate" if one.get("textdescription") == BY_CERTIFICATE else "password",
            "registered": registered[serial] is not None,
        }  # fmt: skip
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            typer.echo(
                f"{serial:<24} {facts['login']:<12} {facts['prefix']}{'' if registered[serial] else '  (not registered)'}"
            )
    if as_json:
        typer.echo(json.dumps({"summary": True, "accounts": len(accounts)}))
    else:
        typer.echo(f"{len(accounts)} machines have an account")


# -------------------------------------------------------------------------------------------------------------- strangers


@app.command()
def unclaimed(
    state: Annotated[str, typer.Option(help="waiting, claimed, admitted or dismissed.")] = strangers.WAITING,
    as_json: AsJson = False,
) -> None:
    """Machines that speak and that nobody has registered, and what is held of them."""
    with _sessions(settings.load()).read() as session:
        rows = [
            {
                "id": row.id, "convention": row.convention, "name": row.name, "serial": row.serial, "type": row.type,
                "model": row.model, "first_heard": row.first_heard_at.isoformat(),
                "last_heard": row.last_heard_at.isoformat(), "heard": row.heard, "held": row.held,
                "held_bytes": row.held_bytes, "beyond": row.beyond, "taken": row.taken, "dismissed": row.dismissed,
                "state": row.state, "machine": row.machine,
            }
            for row in strangers.known(session, state)
        ]  # fmt: skip
    for row in rows:
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False))
            continue
        name = f"{row['convention'] or 'native'} {row['name']}" if row["name"] else "all others"
        beyond = f", {row['beyond']} not held" if row["beyond"] else ""
        typer.echo(f"{row['id']:>6}  {str(row['last_heard'])[:19]}  {name} {row['model']}  {row['held']} held{beyond}")
    if as_json:
        typer.echo(json.dumps({"summary": True, "state": state, "machines": len(rows)}))
    else:
        typer.echo(f"{len(rows)} machines")


@app.command()
def claim(
    number: Annotated[int, typer.Argument(metavar="ID", help="Number from unclaimed.")],
    site: Annotated[int, typer.Option(help="Number of the site at which it stands.")],
    serial: Annotated[str, typer.Option(help="Serial number, where it does not say it.")] = "",
    model: Annotated[str, typer.Option(help="Model, where it does not say it.")] = "",
    zone: Annotated[str, typer.Option(help="Time zone of a foreign machine that reports local times.")] = "",
) -> None:
    """Register an unclaimed machine; the gateway then takes in what is held of it."""
    with _sessions(settings.load()).command() as session:
        row = strangers.stranger(session, number)
        if row is None or row.state not in (strangers.WAITING, strangers.DISMISSED) or not row.name:
            raise NotFoundError("There is no unclaimed machine number {id}", id=number)
        model = model or row.model
        kind = next((one.key for one in EQUIPMENT.values() if model in one.cards), row.type)
        form = {
            "serial": serial or row.serial,
            "type": kind,
            "model": model,
            "site_id": str(site),
            "binding_zone": zone,
        }
        if row.convention:
            form |= {"binding_convention": row.convention, "binding_topic": row.name}
        elif (form["serial"], kind) != (row.serial, row.type):
            raise InvalidError("It speaks as {type} {serial}", type=row.type, serial=row.serial)
        held = row.held
        machine = registry.save_machine(session, SHELL, form, SystemClock().now())
    typer.echo(f"{machine.serial} is registered; {held} messages are taken in by the gateway")


@app.command("dismiss")
def dismiss_one(number: Annotated[int, typer.Argument(metavar="ID", help="Number from unclaimed.")]) -> None:
    """Not ours: give up what is held of it; what it says from now on is only counted."""
    with _sessions(settings.load()).command() as session:
        given_up = dismiss(session, SHELL, number, SystemClock().now())
    typer.echo(f"{given_up} messages given up")


# ---------------------------------------------------------------------------------------------------------------- helpers


@contextmanager
def _broker(given: Settings, user: str, password_file: Path) -> Iterator[DynamicSecurity]:
    with DynamicSecurity(given, user, _secret(password_file)) as broker:
        yield broker


def _secret(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError("Cannot read the password from {file}: {problem}", file=file, problem=error) from error
    if not text:
        raise InvalidError("{file} is empty", file=file)
    return text


def _sessions(given: Settings) -> Sessions:
    engine = open_engine(given.database_url)
    schema.upgrade(engine)
    return Sessions(engine)


def _type_of(session: Session, serial: str, wanted: str) -> str:
    """The type that the topic prefix has. Raises InvalidError, NotFoundError, RefusedError."""
    if not wire.SERIAL.match(serial):
        raise InvalidError("'{text}' is not a serial number: letters, digits, _ and -, at most 64", text=serial)
    if wanted and wanted not in EQUIPMENT:
        raise InvalidError("No equipment type '{text}'; there are {known}", text=wanted, known=", ".join(EQUIPMENT))
    machine = query.machine_or_none(session, serial)
    if machine is None and not wanted:
        raise NotFoundError("There is no machine {serial}; register it first, or give --type", serial=serial)
    if machine is None:
        return wanted
    if machine.binding_convention:
        raise RefusedError(
            "{serial} speaks {convention}: give its bridge an account of its own (mosquitto/README.md)",
            serial=serial, convention=machine.binding_convention,
        )  # fmt: skip
    if wanted not in ("", machine.type):
        raise InvalidError("{serial} is registered as {type}", serial=serial, type=machine.type)
    return machine.type


def _is_device(user: str, account: object) -> bool:
    roles = account.get("roles", ()) if isinstance(account, dict) else ()
    return any(role.get("rolename") == f"device.{user}" for role in roles)


def _account(broker: DynamicSecurity, serial: str) -> dict[str, object]:
    account = broker.account(serial)
    if account is None or not _is_device(serial, account):
        raise NotFoundError("{serial} has no account at the broker", serial=serial)
    return account


def _drawable(path: Path | None) -> None:
    """Refuses a file for the QR code before the account is made rather than after."""
    if path is not None and path.suffix.lower() not in DRAWN:
        raise InvalidError("The QR code becomes .svg or .png, not {name}", name=path.name)
    if path is not None and not os.access(path.parent, os.W_OK):
        raise InvalidError("{folder} cannot be written", folder=path.parent)


def _draw(code: segno.QRCode, path: Path) -> None:
    drawn = io.BytesIO()
    code.save(drawn, kind=path.suffix[1:].lower(), scale=8)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(drawn.getvalue())


def _tell(serial: str, kind: str, secret: str, url: str, qr: Path | None, as_json: bool) -> None:
    facts = {"url": url, "user": serial, "client_id": serial, "password": secret, "prefix": wire.prefix(kind, serial)}
    code = segno.make(json.dumps(facts, separators=(",", ":")), micro=False)
    if qr is not None:
        _draw(code, qr)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, text in facts.items():
        typer.echo(f"{name.replace('_', ' '):<10} {text or WITHOUT}")
    if secret:
        code.terminal(sys.stdout, compact=True)
        typer.echo("This secret is shown once; nobody can read it again.")
