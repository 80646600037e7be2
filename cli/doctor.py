"""``brewair doctor``: each setting with its source, and whether everything it names answers; exit status 0 when all is well.

It looks and changes nothing. Every red line has its cure; a doubt (!) is worth a look and does not change the exit status.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import typer

from cli.doctor_broker import BrokerProbe, Silence, Strange
from domain import __version__
from domain.clock import SystemClock, from_ms
from domain.errors import BrewairError, SettingsError, UnavailableError
from domain.settings import SETTINGS, Settings, load
from domain.store import ingest as sql
from domain.store import schema
from domain.store.session import Sessions, open_engine
from domain.telemetry.influx import InfluxTelemetry
from domain.telemetry.stores import open_telemetry
from gateway.core.library import compiled
from gateway.ingest import dropped
from gateway.ingest.spool import Checkpoint, first_record, segments_of
from gateway.messages import Message
from gateway.service import DROPPED, STORED, subscriptions

app = typer.Typer(help="Check the settings and everything they name.")
SETUP = "run brewair admin devices setup (mosquitto/README.md)"
ROOM_BYTES = 1 << 30
WAITING_SHARE = 0.7
LATE = timedelta(minutes=10)
SKEW = timedelta(seconds=2)
"""Clocks further apart than this confuse whoever compares their times; InfluxDB's is read to the second."""


class Problem(Exception):
    """What is wrong and how to cure it."""

    def __init__(self, what: str, cure: str) -> None:
        self.what, self.cure = what, cure
        super().__init__(what)


class Doubt(Problem):
    """Nothing is broken, but somebody should look."""


@app.callback(invoke_without_command=True)
def doctor(as_json: bool = typer.Option(False, "--json", help="One JSON object per line.")) -> None:
    """Print every setting with its source (secrets masked), then check each store and the broker."""
    settings = load()
    for name, setting in SETTINGS.items():
        value = "***" if setting.secret and settings.sources[name] != "default" else getattr(settings, setting.field)
        line = {"setting": name, "value": str(value), "source": settings.sources[name]}
        typer.echo(json.dumps(line) if as_json else f"{name:28} {line['value']}  ({line['source']})")
    failures = doubts = 0
    for title, check in CHECKS:
        problem: Problem | None = None
        try:
            found = check(settings)
        except Problem as raised:
            problem, found = raised, raised.what
        except SettingsError as error:
            problem, found = Problem(str(error), "correct the setting that the line names"), str(error)
        except BrewairError as error:
            problem, found = Problem(str(error), "start it, or correct the setting that names it"), str(error)
        doubt = isinstance(problem, Doubt)
        doubts += doubt
        failures += problem is not None and not doubt
        if as_json:
            cure = problem.cure if problem else ""
            typer.echo(
                json.dumps({"check": title, "ok": doubt or not problem, "doubt": doubt, "found": found, "cure": cure})
            )
        else:
            typer.echo(f"{'✓' if problem is None else '!' if doubt else '✗'} {title}: {found}")
            if problem is not None:
                typer.echo(f"    → {problem.cure}")
    if as_json:
        summary = {"summary": True, "version": __version__, "failures": failures, "doubts": doubts}
        typer.echo(json.dumps(summary))
    raise typer.Exit(1 if failures else 0)


# --- this machine


def _folder(settings: Settings) -> str:
    return f"{_writable(settings.data_dir, 'BREWAIR_DATA_DIR')} can be written"


def _room(settings: Settings) -> str:
    folder = _writable(settings.spool_dir, "BREWAIR_SPOOL_DIR")
    free = shutil.disk_usage(folder).free
    taken = sum(segment.size for segment in segments_of(folder))
    wanted = max(0, settings.spool_max_bytes - taken)
    if free < ROOM_BYTES:
        raise Problem(
            f"only {free >> 20} MiB free at {folder}", "make room, or point BREWAIR_SPOOL_DIR to another disk"
        )
    if free < wanted:
        raise Doubt(
            f"{free >> 20} MiB free, but the spool may still grow by {wanted >> 20} MiB",
            "make room, or lower BREWAIR_SPOOL_MAX_BYTES: the disk would be full before the spool is",
        )
    return f"{free >> 30} GiB free at {folder}"


def _backlog(settings: Settings) -> str:
    folder = settings.spool_dir
    segments = segments_of(folder)
    stored = Checkpoint(folder / STORED).load()
    waiting = max(0, segments[-1].end - max(stored, segments[0].base)) if segments else 0
    if waiting > WAITING_SHARE * settings.spool_max_bytes:
        raise Problem(
            f"{waiting >> 20} MiB of {settings.spool_max_bytes >> 20} MiB wait to be stored",
            "bring the telemetry store back, or raise BREWAIR_SPOOL_MAX_BYTES before the policy applies",
        )
    record = first_record(folder, stored) if waiting else None
    if record is not None:
        late = SystemClock().now() - from_ms(Message.unpack(record).recv_ms)
        if late > LATE:
            raise Problem(
                f"{waiting >> 10} KiB wait, the oldest for {round(late.total_seconds() / 60)} min",
                "see whether the gateway runs and the telemetry store answers; it drains by itself",
            )
    given_up = dropped.load(folder / DROPPED)
    if given_up:
        raise Doubt(
            f"a full spool gave up {given_up.total()} messages of {len(given_up)} machines",
            f"brewair spool inspect names them; delete {folder / DROPPED} when that is settled",
        )
    return f"{waiting} bytes wait"


def _writable(folder: Path, setting: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Problem(f"{folder} cannot be written: {error.strerror}", f"make it writable, or set {setting}") from error
    return folder


# --- the stores


def _database(settings: Settings) -> str:
    engine = open_engine(settings.database_url)
    try:
        present = schema.present(engine)
    except SettingsError as error:
        raise Problem(str(error), "correct BREWAIR_DATABASE_URL, or install the brewair that belongs to it") from error
    except UnavailableError as error:
        raise Problem(
            str(error), "start the database, or correct BREWAIR_DATABASE_URL; nothing is lost meanwhile"
        ) from error
    finally:
        engine.dispose()
    if present != schema.NEWEST:
        return f"answers; the next start brings its schema from {present or 'nothing'} to {schema.NEWEST}"
    return f"answers, schema {present}"


def _telemetry(settings: Settings) -> str:
    store = open_telemetry(settings)
    try:
        if isinstance(store, InfluxTelemetry):
            wrong = store.shortcomings()
            if wrong:
                raise Problem("; ".join(what for what, _ in wrong), "; ".join(dict.fromkeys(cure for _, cure in wrong)))
        else:
            store.setup()
        store.ping()
    except UnavailableError as error:
        raise Problem(str(error), _TELEMETRY_CURES.get(error.params.get("status"), START_TELEMETRY)) from error
    finally:
        store.close()
    return "token, buckets, retention, mapping and tasks are right" if isinstance(store, InfluxTelemetry) else "answers"


START_TELEMETRY = "start the telemetry store, or correct BREWAIR_TELEMETRY_URL; nothing is lost meanwhile"
WRONG_TOKEN = "write a valid token into the file of BREWAIR_INFLUX_TOKEN_FILE; the gateway reads it again by itself"  # noqa: S105
_TELEMETRY_CURES: dict[object, str] = {
    401: WRONG_TOKEN,
    403: WRONG_TOKEN,
    404: "correct organisation and bucket in BREWAIR_TELEMETRY_URL",
}


def _clocks(settings: Settings) -> str:
    """Against every clock that can be asked; MQTT has no way to ask the broker's."""
    apart = {name: abs(skew) for name, ask in _CLOCKS if (skew := _skew(ask, settings)) is not None}
    wrong = {name: skew for name, skew in apart.items() if skew > SKEW}
    told = ", ".join(f"{name} {skew.total_seconds():.1f} s apart" for name, skew in apart.items())
    if wrong:
        raise Problem(told, "synchronise the clocks of both machines (chrony, systemd-timesyncd)")
    return told or "both stores are on this machine and have its clock"


def _skew(ask: Callable[[Settings], datetime | None], settings: Settings) -> timedelta | None:
    clock = SystemClock()
    before = clock.now()
    try:
        said = ask(settings)
    except BrewairError:
        return None  # the line of that store says so
    return None if said is None else said - before - (clock.now() - before) / 2


def _sql_time(settings: Settings) -> datetime | None:
    engine = open_engine(settings.database_url)
    try:
        with Sessions(engine).read() as session:
            return sql.database_time(session)
    finally:
        engine.dispose()


def _influx_time(settings: Settings) -> datetime | None:
    store = open_telemetry(settings)
    try:
        said = store.clock() if isinstance(store, InfluxTelemetry) else None
        return said + timedelta(seconds=0.5) if said else None
    finally:
        store.close()


_CLOCKS: tuple[tuple[str, Callable[[Settings], datetime | None]], ...] = (
    ("SQL", _sql_time),
    ("InfluxDB", _influx_time),
)


# --- the broker


def _broker(settings: Settings) -> str:
    scheme, versions = settings.mqtt_url.partition(":")[0], []
    for host, port in settings.brokers:  # of a cluster each node has to
        with _probe(replace(settings, mqtt_url=f"{scheme}://{host}:{port}")) as probe:
            versions.append(probe.version)
    return f"{settings.mqtt_url} lets us in (MQTT {', '.join(versions)})"


def _rights(settings: Settings) -> str:
    with _probe(settings) as probe:
        deaf_to = probe.deaf_to(subscriptions(settings.shards))
        if deaf_to:
            raise Problem(
                f"the broker does not let us hear machines that speak on {', '.join(deaf_to)}",
                f"give the gateway its role: {SETUP}; on another broker the right to read these topics",
            )
        allowed = probe.may_command_machines()
        if allowed is False:
            raise Problem(
                "the broker does not let us send commands to machines",
                f"give the gateway its role: {SETUP}; on another broker the right to write brewair/v1/+/+/+/down/#",
            )
        span = probe.round_trip()
        commands = "commands may be sent" if allowed else "whether commands may be sent MQTT 3.1.1 does not say"
        if span is None:
            raise Doubt(
                f"{commands}; no message came back",
                f"to let doctor try it, {SETUP}; on another broker the right to read and write brewair/doctor/#",
            )
        return f"machines may be heard, {commands}, a message came back after {span * 1000:.0f} ms"


def _queues(settings: Settings) -> str:
    cure = "use the queue settings of mosquitto/mosquitto.conf (its README says why); then restart the broker"
    with _probe(settings) as probe:
        limit = probe.receive_maximum
        if limit is not None and limit < 1000:
            raise Doubt(f"only {limit} messages may be on the way at once (max_inflight_messages)", cure)
        dropped_messages = probe.dropped()
    if dropped_messages is None:
        raise Doubt(
            "what the broker drops cannot be read",
            "let the gateway's user read $SYS/broker/# where the broker is mosquitto; else watch the broker's own figures",
        )
    if dropped_messages:
        raise Doubt(f"the broker has dropped {dropped_messages} messages since its start", cure)
    return "the broker has dropped nothing of late"


def _probe(settings: Settings) -> BrokerProbe:
    try:
        return BrokerProbe(settings)
    except Strange as error:
        raise Problem(f"refused: {error}", "check BREWAIR_MQTT_USER and BREWAIR_MQTT_PASSWORD_FILE") from error
    except Silence as error:
        raise Problem(
            f"{settings.mqtt_url} takes connections but does not greet", "check that it speaks MQTT 3.1.1"
        ) from error
    except OSError as error:
        raise Problem(
            f"{settings.mqtt_url} does not answer: {error}", "start the broker, or set BREWAIR_MQTT_URL"
        ) from error


def _core(settings: Settings) -> str:
    if compiled(settings):
        return "ordinary messages go through the compiled core"
    if settings.gateway_core == "python":
        return "BREWAIR_GATEWAY_CORE asks for Python alone"
    raise Doubt(
        "there is no compiled core: every message costs some twenty times the CPU",
        "install Rust's cargo and then brewair again, where thousands of machines speak",
    )


CHECKS: tuple[tuple[str, Callable[[Settings], str]], ...] = (
    ("data folder", _folder),
    ("room for the spool", _room),
    ("backlog of the spool", _backlog),
    ("gateway core", _core),
    ("database", _database),
    ("telemetry store", _telemetry),
    ("clocks", _clocks),
    ("MQTT broker", _broker),
    ("rights at the broker", _rights),
    ("queues of the broker", _queues),
)
