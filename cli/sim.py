"""``brewair sim``: scenarios, free-running fleets and recorded traces."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TextIO

import typer

from device_sim import replay as traces
from device_sim import scenario as scenarios
from device_sim.bus import Bus, DirectBus
from device_sim.faults import nearest
from device_sim.fleet import CHUNK_MS, Fleet, MachineSpec, Tally, build, everyday
from device_sim.machine import Publication
from device_sim.profiles import CARDS
from device_sim.publisher import Broker, Publisher
from device_sim.runner import Outcome, run_freely
from device_sim.site import Site
from domain import settings
from domain.catalogue.model import ModelCard
from domain.clock import ScaledClock, SystemClock, from_ms, to_ms
from domain.errors import InvalidError

app = typer.Typer(help="Simulated machines: scenarios, fleets, recorded traces.", no_args_is_help=True)

FIXED_START = datetime(2026, 1, 14, tzinfo=UTC)
"""Start of a run that meets no broker: the same seed must give the same bytes on any day."""
FOREVER = timedelta(days=36_500)
REAL_STEP_MS = 1_000

Seed = Annotated[int | None, typer.Option(help="Seed of all chance; the same seed gives the same output.")]
Speed = Annotated[str, typer.Option(help="real, max, or a factor such as 60x.")]
BrokerUrl = Annotated[str | None, typer.Option("--broker", help="mqtt://HOST:PORT; log-in and TLS from the settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]
Start = Annotated[str | None, typer.Option(help="Device time of the start: ISO 8601 with offset, or now.")]
Acks = Annotated[Path | None, typer.Option(help="File that gets one JSON line per acknowledged sample.")]
Connections = Annotated[
    int, typer.Option(min=0, help="Shared connections; 0 = one per machine, with its own last will.")
]


@app.command()
def run(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="SCENARIO…", help="Names or TOML files; none = all.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--assert", help="Compare with what is expected; exit 1 with the diff.")
    ] = False,
    seed: Seed = None,
    speed: Speed = "max",
    broker: BrokerUrl = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Gateway and stores in this process (default).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run scenarios through the gateway and its stores."""
    if broker and in_process:
        raise InvalidError("Choose either --broker or --in-process", field="broker")
    factor = speed_factor(speed)
    chosen = [scenarios.load(name) for name in names or scenarios.shipped()]
    run_scenario: Callable[..., Outcome] = importlib.import_module("cli.loop").run_scenario
    failed = 0
    for scenario in chosen:
        outcome = run_scenario(scenario, seed=seed, factor=factor, broker=broker)
        failed += bool(outcome.differences)
        _report(outcome, scenario.title, as_json)
    if as_json:
        _say({"summary": True, "scenarios": len(chosen), "failed": failed})
    if check and failed:
        raise typer.Exit(1)


def _report(outcome: Outcome, title: str, as_json: bool) -> None:
    if as_json:
        _say(
            {
                "scenario": outcome.scenario,
                "as_expected": not outcome.differences,
                "differences": list(outcome.differences),
                "samples": outcome.samples,
            }
        )
        return
    typer.echo(
        f"{'ok  ' if not outcome.differences else 'DIFF'} {outcome.scenario}: {title} ({outcome.samples} samples)"
    )
    for line in outcome.differences:
        typer.echo(f"     {line}")


@app.command()
def fleet(
    equipment_type: Annotated[str, typer.Option("--type", help="soymilk or freshair.")] = "soymilk",
    count: Annotated[int, typer.Option(min=1)] = 1,
    hours: Annotated[
        float | None, typer.Option(min=0.0, help="Virtual hours; default 24, but in real time until stopped.")
    ] = None,
    interval: Annotated[int, typer.Option(min=1, max=3600, help="Sampling interval in s.")] = 30,
    seed: Seed = None,
    speed: Speed = "max",
    broker: BrokerUrl = None,
    start: Start = None,
    connections: Connections = 1,
    acks: Acks = None,
    output: Annotated[str | None, typer.Option(help="File for the messages as JSON lines; - = stdout.")] = None,
    as_json: AsJson = False,
) -> None:
    """A free-running fleet of healthy machines; without a broker it prints counts and a fingerprint."""
    factor = speed_factor(speed)
    span = timedelta(hours=hours) if hours is not None else (FOREVER if factor == 1.0 else timedelta(days=1))
    start_ms = to_ms(_start(start, broker, factor, span))
    number = 1 if seed is None else seed
    machines = Fleet.build(
        everyday(equipment_type, count, seed=number, interval_s=interval), seed=number, start_ms=start_ms
    )
    tally, wall_s = _let_live(machines, span, factor, broker, connections, acks, output)
    summary = {
        "summary": True, "machines": count, "hours": span / timedelta(hours=1), "sampling_s": interval, "samples": tally.samples,
        "messages": tally.messages, "wall_s": round(wall_s, 3), "sha256": tally.sha256,
    }  # fmt: skip
    _conclude(summary, as_json, to_stderr=output == "-")


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="The recorded file.")],
    fmt: Annotated[str, typer.Option("--format", help="csv, tracebase or beijing.")] = "csv",
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="channel=column (name or number), repeated.")
    ] = None,
    serial: Annotated[str, typer.Option(help="Serial number of the machine that speaks.")] = "REPLAY-0001",
    equipment_type: Annotated[str | None, typer.Option("--type", help="soymilk or freshair.")] = None,
    model: Annotated[str | None, typer.Option(help="Model key; default: the type's first.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="Begin at this moment of the record (ISO 8601).")] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.0, help="Length; default: to the record's end, Beijing 24 h.")
    ] = None,
    start: Start = None,
    interval: Annotated[int, typer.Option(min=1, max=3600, help="Sampling interval in s.")] = 10,
    seed: Seed = None,
    speed: Speed = "max",
    broker: BrokerUrl = None,
    acks: Acks = None,
    output: Annotated[str | None, typer.Option(help="File for the messages as JSON lines; - = stdout.")] = None,
    as_json: AsJson = False,
) -> None:
    """Publish a recorded trace as a machine. Device times are the record's own unless --start says otherwise."""
    factor = speed_factor(speed)
    number = 1 if seed is None else seed
    record_ms = to_ms(_moment(since)) if since else None
    start_ms = to_ms(_moment(start)) if start else None
    if fmt == "beijing":
        record = traces.read_beijing(file)
        card = _card(equipment_type or "freshair", model)
        first_ms = record.start_ms if record_ms is None else record_ms
        begin = first_ms if start_ms is None else start_ms
        spec = MachineSpec(
            serial=serial, type=card.type, model=card.key, card=card, interval_s=interval,
            site=Site(name="Beijing", outdoor_c=0.0), pm25=record.later(begin - first_ms),
        )  # fmt: skip
        machine, span = build(spec, seed=number, start_ms=begin), timedelta(hours=hours or 24.0)
    else:
        card = _card(equipment_type or "soymilk", model)
        length_ms = None if hours is None else round(hours * 3_600_000)
        trace = _read_trace(file, fmt, mapping or [], card.type).part(record_ms, length_ms)
        begin = trace.start_ms if start_ms is None else start_ms
        machine = traces.machine_of(trace, serial, card, start_ms=begin, interval_s=interval, seed=number)
        span = timedelta(milliseconds=trace.end_ms - trace.start_ms)
    tally, wall_s = _let_live(Fleet([machine], start_ms=begin), span, factor, broker, 1, acks, output)
    summary = {
        "summary": True, "serial": serial, "type": card.type, "model": card.key, "samples": tally.samples,
        "messages": tally.messages, "first_ts": begin, "last_ts": tally.last_ts, "wall_s": round(wall_s, 3),
        "sha256": tally.sha256,
    }  # fmt: skip
    _conclude(summary, as_json, to_stderr=output == "-")


# ---------------------------------------------------------------------- what the commands share


def speed_factor(text: str) -> float | None:
    """Virtual seconds per real second; None = as fast as it goes. Raises InvalidError."""
    if text == "max":
        return None
    try:
        factor = 1.0 if text == "real" else float(text.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0.0 < factor < float("inf"):
        raise InvalidError("--speed must be real, max or a factor such as 60x, not {given}", field="speed", given=text)
    return factor


def pacer(factor: float | None, start_ms: int, stop: threading.Event) -> Callable[[int], bool]:
    """``pace`` of device_sim.runner: waits until virtual time has come; True once ``stop`` is set."""
    if factor is None:
        return lambda next_ms: stop.is_set()
    clock = ScaledClock(SystemClock().now(), from_ms(start_ms), factor)
    return lambda next_ms: clock.wait(from_ms(next_ms) - clock.now(), stop)


def broker_at(url: str) -> Broker:
    """The broker of ``--broker``, with log-in and certificates of the settings."""
    known = settings.load()
    return Broker(
        url=url, user=known.mqtt_user, password=known.secret_text(known.mqtt_password_file),
        ca_file=known.mqtt_ca_file, cert_file=known.mqtt_cert_file, key_file=known.mqtt_key_file,
    )  # fmt: skip


def _let_live(
    fleet: Fleet,
    span: timedelta,
    factor: float | None,
    broker: str | None,
    connections: int,
    acks: Path | None,
    output: str | None,
) -> tuple[Tally, float]:
    """Run ``fleet`` for ``span``: its tally and the wall time in s. Ctrl-C ends it early and cleanly."""
    stop, clock = threading.Event(), SystemClock()
    end_ms = fleet.start_ms + round(span / timedelta(milliseconds=1))
    step_ms = CHUNK_MS if factor is None else max(REAL_STEP_MS, round(REAL_STEP_MS * factor / 10))
    began = clock.monotonic()
    with ExitStack() as stack:
        bus: Bus
        if broker:
            log = stack.enter_context(acks.open("a", encoding="utf-8")) if acks else None
            publisher = Publisher(broker_at(broker), fleet.machines.values(), connections=connections, acks=log)
            bus = stack.enter_context(publisher)
        else:
            bus = DirectBus(_writer(stack.enter_context(_written(output))))
        try:
            tally = run_freely(fleet, bus, end_ms, step_ms=step_ms, pace=pacer(factor, fleet.start_ms, stop))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    return tally, clock.monotonic() - began


def _written(output: str | None) -> AbstractContextManager[TextIO | None]:
    if output in (None, "-"):
        return nullcontext(typer.get_text_stream("stdout") if output else None)
    return Path(str(output)).open("w", encoding="utf-8")


def _writer(file: TextIO | None) -> Callable[[Publication], None]:
    def write(publication: Publication) -> None:
        if file is not None:
            message = {
                "topic": publication.topic, "payload": publication.payload.decode(), "qos": publication.qos,
                "retain": publication.retain,
            }  # fmt: skip
            file.write(json.dumps(message, ensure_ascii=False, separators=(",", ":")) + "\n")

    return write


def _start(given: str | None, broker: str | None, factor: float | None, span: timedelta) -> datetime:
    """Given, or: now for a run in real time; so that it ends by now for a faster one on a broker; else always the same."""
    if given:
        return _moment(given)
    now = SystemClock().now()
    if not broker:
        return FIXED_START
    return now if factor == 1.0 else now - span


def _moment(text: str) -> datetime:
    if text == "now":
        return SystemClock().now()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidError("Not a date and time: {given}", field="start", given=text) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _card(equipment_type: str, model: str | None) -> ModelCard:
    cards = CARDS.get(equipment_type)
    if cards is None:
        near = nearest(equipment_type, CARDS)
        raise InvalidError("No equipment type {type}{near}", field="type", type=equipment_type, near=near)
    if model is not None and model not in cards:
        raise InvalidError("No model {model}{near}", field="model", model=model, near=nearest(model, cards))
    return cards[model] if model else next(iter(cards.values()))


def _read_trace(file: Path, fmt: str, mapping: list[str], equipment_type: str) -> traces.Trace:
    columns: dict[str, str] = {}
    for item in mapping:
        channel, equals, column = item.partition("=")
        if not equals or not column:
            raise InvalidError("--map must be channel=column, not {given}", field="map", given=item)
        columns[channel.strip()] = column.strip()
    match fmt:
        case "tracebase":
            return traces.read_tracebase(file, columns)
        case "csv":
            return traces.read_csv(file, columns, equipment_type)
    formats = ("csv", "tracebase", "beijing")
    raise InvalidError("No format {given}{near}", field="format", given=fmt, near=nearest(fmt, formats))


def _conclude(summary: dict[str, object], as_json: bool, *, to_stderr: bool) -> None:
    if as_json:
        _say(summary, to_stderr=to_stderr)
        return
    width = max(len(key) for key in summary)
    for key, value in summary.items():
        if key != "summary":
            typer.echo(f"{key:<{width}}  {value}", err=to_stderr)


def _say(line: dict[str, object], *, to_stderr: bool = False) -> None:
    typer.echo(json.dumps(line, ensure_ascii=False), err=to_stderr)
