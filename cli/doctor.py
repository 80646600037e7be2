"""``brewair doctor``: each setting with its source, and whether everything it names answers; exit status 0 when all is well."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from urllib.parse import urlsplit

import typer
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from domain import __version__
from domain.errors import BrewairError
from domain.settings import SETTINGS, Settings, load
from domain.store import schema
from domain.store.session import open_engine
from domain.telemetry.stores import open_telemetry

app = typer.Typer(help="Check the settings and everything they name.")
RESERVE_BYTES = 1 << 30


class Problem(Exception):
    """What is wrong and how to cure it."""

    def __init__(self, what: str, cure: str) -> None:
        self.what, self.cure = what, cure
        super().__init__(what)


@app.callback(invoke_without_command=True)
def doctor(as_json: bool = typer.Option(False, "--json", help="One JSON object per line.")) -> None:
    """Print every setting with its source (secrets masked), then check each store and the broker."""
    settings = load()
    for name, setting in SETTINGS.items():
        value = "***" if setting.secret and settings.sources[name] != "default" else getattr(settings, setting.field)
        line = {"setting": name, "value": str(value), "source": settings.sources[name]}
        typer.echo(json.dumps(line) if as_json else f"{name:28} {line['value']}  ({line['source']})")
    failures = 0
    for title, check in CHECKS:
        problem: Problem | None = None
        try:
            found = check(settings)
        except Problem as raised:
            problem, found = raised, raised.what
        except BrewairError as error:
            problem, found = Problem(str(error), "see the message"), str(error)
        failures += problem is not None
        if as_json:
            typer.echo(json.dumps({"check": title, "ok": problem is None, "found": found}))
        else:
            typer.echo(f"{'✓' if problem is None else '✗'} {title}: {found}")
            if problem is not None:
                typer.echo(f"    → {problem.cure}")
    if as_json:
        typer.echo(json.dumps({"summary": True, "version": __version__, "failures": failures}))
    raise typer.Exit(1 if failures else 0)


def _folder(settings: Settings) -> str:
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Problem(
            f"{folder} cannot be written: {error.strerror}", "make it writable, or set BREWAIR_DATA_DIR"
        ) from error
    return f"{folder} can be written"


def _room(settings: Settings) -> str:
    settings.spool_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.spool_dir).free
    if free < RESERVE_BYTES:
        raise Problem(f"only {free >> 20} MiB free", "make room, or point BREWAIR_SPOOL_DIR to another disk")
    return f"{free >> 30} GiB free at {settings.spool_dir}"


def _database(settings: Settings) -> str:
    engine = open_engine(settings.database_url)
    try:
        schema.upgrade(engine)
    finally:
        engine.dispose()
    return f"answers, schema {schema.newest()}"


def _telemetry(settings: Settings) -> str:
    store = open_telemetry(settings)
    try:
        store.setup()
        store.ping()
    except BrewairError as error:
        raise Problem(
            str(error), "check BREWAIR_TELEMETRY_URL and the token file; nothing is lost meanwhile"
        ) from error
    finally:
        store.close()
    return "answers"


def _broker(settings: Settings) -> str:
    parts = urlsplit(settings.mqtt_url)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"brewair-doctor-{os.getpid()}")
    if settings.mqtt_user:
        client.username_pw_set(settings.mqtt_user, settings.secret_text(settings.mqtt_password_file) or None)
    if parts.scheme == "mqtts":
        certificate, key = (str(f) if f else None for f in (settings.mqtt_cert_file, settings.mqtt_key_file))
        client.tls_set(str(settings.mqtt_ca_file) if settings.mqtt_ca_file else None, certificate, key)
    answers: list[str] = []
    client.on_connect = lambda _client, _userdata, _flags, code, _properties: answers.append(
        str(code) if code.is_failure else ""
    )
    try:
        client.connect(parts.hostname or "", parts.port or (8883 if parts.scheme == "mqtts" else 1883), keepalive=10)
        for _ in range(50):
            client.loop(timeout=0.1)
            if answers:
                break
    except OSError as error:
        raise Problem(
            f"{settings.mqtt_url} does not answer: {error}", "start the broker, or set BREWAIR_MQTT_URL"
        ) from error
    finally:
        client.disconnect()
    if not answers:
        raise Problem(f"{settings.mqtt_url} takes connections but does not greet", "check that it speaks MQTT 3.1.1")
    if answers[0]:
        raise Problem(f"refused: {answers[0]}", "check BREWAIR_MQTT_USER and BREWAIR_MQTT_PASSWORD_FILE")
    return f"{settings.mqtt_url} lets us in"


CHECKS: tuple[tuple[str, Callable[[Settings], str]], ...] = (
    ("data folder", _folder),
    ("room for the spool", _room),
    ("database", _database),
    ("telemetry store", _telemetry),
    ("MQTT broker", _broker),
)
