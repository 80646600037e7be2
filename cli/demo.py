"""``brewair demo``: the whole product on one machine with nothing to install, and a story to watch or to play.

Embedded broker, gateway, portal and 24 simulated machines in one process tree; SQLite in a temporary folder. ``--check`` plays
the same story without a portal, as fast as the parts allow, and exits 0 only if every step happened.
"""

from __future__ import annotations

import json
import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog
import typer

from cli import demo_world as world
from cli.broker import embedded_broker, free_port
from cli.loop import CONNECTIONS, open_loop
from cli.story import STEPS, Director
from device_sim.fleet import Fleet
from device_sim.machine import Publication
from device_sim.publisher import Broker, Publisher
from domain.clock import ManualClock, ScaledClock, SystemClock, to_ms
from domain.errors import BrewairError, InvalidError
from domain.settings import Settings, load
from domain.store.schema import upgrade
from domain.store.session import Sessions, open_engine
from gateway.service import running
from portal.auth import hash_password
from portal.serve import open_portal, serve

app = typer.Typer(help="The whole product on one machine, with a story to watch or to play.")

FACTOR = 30.0
CHECK_STEP = timedelta(seconds=5)
CHECK_LIMIT = timedelta(hours=4)
CHECK_START = datetime(2026, 3, 1, 21, 50, tzinfo=UTC)
LIVE_STEP_S = 0.2
ZONE = ZoneInfo("Asia/Shanghai")


@app.callback(invoke_without_command=True)
def demo(
    check: bool = typer.Option(
        False, "--check", help="Play the story headless at full speed; exit 0 if it all happened."
    ),
    as_json: bool = typer.Option(False, "--json", help="With --check: JSON lines."),
    speed: float = typer.Option(FACTOR, min=1, max=120, help="How many times as fast as real time."),
    keep: Path | None = typer.Option(None, "--keep", help="Keep the state in this folder."),
    bind: str = typer.Option("127.0.0.1:8000", "--bind", help="HOST:PORT of the portal; a taken port is an error."),
) -> None:
    """Embedded broker, gateway, portal, 24 machines; ends cleanly on Ctrl-C."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with _folder(keep) as folder:
        if check:
            raise typer.Exit(0 if _check(folder, as_json) else 1)
        _live(folder, speed, bind)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="brewair-demo-") as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidError("Cannot make the folder {path}: {reason}", path=keep, reason=error.strerror) from error
    if any(keep.iterdir()):
        raise InvalidError("The folder {path} is not empty; a demo begins anew each time", path=keep)
    yield keep


def _settings(folder: Path, mqtt_url: str, bind: str) -> Settings:
    return load({"BREWAIR_DATA_DIR": str(folder), "BREWAIR_MQTT_URL": mqtt_url, "BREWAIR_PORTAL_BIND": bind})


# ----------------------------------------------------------------------------------------------------------------- --check


def _check(folder: Path, as_json: bool) -> bool:
    wall = SystemClock()
    began = wall.monotonic()
    start = CHECK_START

    def said(now: datetime, key: str, line: str) -> None:
        minutes, seconds = divmod(round((now - start).total_seconds()), 60)
        if not as_json:
            typer.echo(f"{minutes:4d}:{seconds:02d}  {line}")

    with ExitStack() as stack:
        url = stack.enter_context(embedded_broker(folder))
        clock = ManualClock(start)
        loop = stack.enter_context(open_loop(_settings(folder, url, "127.0.0.1:0"), clock, through_broker=True))
        world.seed(loop.sessions, start, password_hash="")
        fleet = world.fleet(start)
        bus = loop.attach(fleet, stack)
        director = Director(loop.sessions, fleet, world.STORY_SERIAL, start + world.FAULT_AFTER, said)
        now, last_ts = start, 0

        def send(publications: list[Publication]) -> None:
            nonlocal last_ts
            if publications:
                bus.publish(publications)
                last_ts = max(last_ts, *(ts for one in publications for ts, _ in one.objects), 0)

        while not director.done and now < start + CHECK_LIMIT:
            now += CHECK_STEP
            send(fleet.advance(to_ms(now)))
            loop.sync(last_ts, to_ms(now))
            for topic, payload in bus.commands():
                send(fleet.receive(topic, payload, to_ms(now)))
            send(director.step(now))
    wall_s = round(wall.monotonic() - began, 1)
    steps = [
        {
            "step": key,
            "at_s": round((director.reached[key] - start).total_seconds()) if key in director.reached else None,
            "ok": key in director.reached,
        }
        for key, _ in STEPS
    ]
    if as_json:
        summary = {"summary": True, "steps": steps, "closed": "closed" in director.reached, "wall_s": wall_s}
        typer.echo(json.dumps(summary))
    else:
        for key, line in STEPS:
            if key not in director.reached:
                typer.echo(f"   MISSING  {line}")
        typer.echo(f"{'every step happened' if director.done else 'the story is incomplete'}; {wall_s} s")
    return director.done


# -------------------------------------------------------------------------------------------------------------------- live


def _live(folder: Path, factor: float, bind: str) -> None:
    wall = SystemClock()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    password = secrets.token_urlsafe(6)
    with ExitStack() as stack:
        url = stack.enter_context(embedded_broker(folder, free_port()))
        settings = _settings(folder, url, bind)
        start = wall.now().astimezone(ZONE).replace(hour=5, minute=50, second=0, microsecond=0).astimezone(UTC)
        engine = open_engine(settings.database_url)
        upgrade(engine)
        sessions = Sessions(engine)
        world.seed(sessions, start, hash_password(password))
        world.seed_earlier_calls(sessions, start)
        fleet = world.fleet(start)
        clock = ScaledClock(wall.now(), start, factor)
        portal = open_portal(settings, clock)
        stack.enter_context(running(settings, clock))
        publisher = stack.enter_context(Publisher(Broker(url=url), fleet.machines.values(), connections=CONNECTIONS))
        told: list[str] = []
        failures: list[BaseException] = []
        server = threading.Thread(
            target=_guarded, args=(lambda: serve(portal, settings.portal_bind, stop, told.append), stop, failures)
        )
        server.start()
        while not told and not stop.wait(0.05):
            pass
        if told:
            typer.echo(_banner(told[0], password, factor))
            director = Director(sessions, fleet, world.STORY_SERIAL, start + world.FAULT_AFTER, _say_live)
            _live_fleet(fleet, publisher, clock, director, start, stop)
        stop.set()
        server.join()
        if failures:
            raise failures[0]


def _guarded(work: Callable[[], None], stop: threading.Event, failures: list[BaseException]) -> None:
    try:
        work()
    except BrewairError as error:
        failures.append(error)
    finally:
        stop.set()


def _live_fleet(
    fleet: Fleet, publisher: Publisher, clock: ScaledClock, director: Director, start: datetime, stop: threading.Event
) -> None:
    """Let the machines live, obey and fail until somebody says stop."""
    coming = sorted(
        [(m.after, m.serial, m.fault, True) for m in world.MISHAPS]
        + [(m.mended_after, m.serial, m.fault, False) for m in world.MISHAPS if m.mended_after is not None]
    )
    while not stop.wait(LIVE_STEP_S):
        now = clock.now()
        publisher.publish(fleet.advance(to_ms(now)))
        for topic, payload in publisher.commands():
            publisher.publish(fleet.receive(topic, payload, to_ms(now)))
        while coming and start + coming[0][0] <= now:
            _, serial, fault, begins = coming.pop(0)
            change = fleet.inflict if begins else fleet.mend
            publisher.publish(change(serial, fault, to_ms(now)))
        publisher.publish(director.step(now))


def _say_live(now: datetime, key: str, line: str) -> None:
    typer.echo(f"{now.astimezone(ZONE):%H:%M:%S}  {line}")


def _banner(address: str, password: str, factor: float) -> str:
    rule = "─" * 78
    logins = "\n".join(f"    {login:10} {label}" for _, login, label in world.ROLE_LINES)
    return f"""
{rule}
  brewair demo · {len(world.machines())} machines on {len(world.PLACES)} sites · time runs {factor:g}× as fast

  Open      {address}
  Log in    password for everybody: {password}
{logins}

  What will happen, unless you are quicker (take over at any step):
    a heater element of {world.STORY_SERIAL} opens · a ticket opens itself · ranked proposal ·
    visit · first repair, incomplete: the test run FAILS · second repair: it PASSES · closed.
    Other machines lose their fan, their plug, their filter: those tickets are yours.

  Ctrl-C ends it.
{rule}"""
