"""``brewair bench machines``: what a fleet costs in which every machine keeps a connection of its own, and whether it is stored.

Broker, InfluxDB and gateway are real processes, the machines one more. A machine sends readings that look healthy, at its own
phase of the interval, and remembers what the broker has acknowledged; that is compared with what InfluxDB holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, cast

import orjson
import typer
import urllib3
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select

from cli import bench_rig as rig
from domain import wire
from domain.clock import SystemClock, to_ms
from domain.errors import UnavailableError
from domain.readings import Value
from domain.store.session import Sessions, open_engine
from domain.store.tables import Ticket
from gateway.ingest import mqtt_codec as codec

PER_SITE = 10
KEEPALIVE_S = 60
MODELS = {"soymilk": "SMM-25", "freshair": "FAU-300"}
HEALTHY: Mapping[str, Mapping[str, Value]] = {
    "soymilk": {
        "run_state": "standby", "mode": "auto", "voltage_v": 219.0, "current_a": 0.04, "power_w": 8.0, "freq_hz": 50.0,
        "energy_kwh": 812.4, "water_flow_lpm": 0.0, "water_total_l": 9300.0, "water_pressure_mpa": 0.31,
        "water_level_pct": 0.0, "level_low": True, "level_high": False, "temp_c": 23.4, "temp_heater_c": 23.0,
        "overflow_electrode": False, "lid_open": False, "heater_on": False, "motor_on": False, "rssi_dbm": -62.0,
    },
    "freshair": {
        "run_state": "running", "mode": "auto", "level": 1.0, "voltage_v": 221.0, "current_a": 0.14, "power_w": 18.0,
        "energy_kwh": 301.7, "airflow_m3h": 121.0, "fan_supply_rpm": 892.0, "filter_dp_pa": 22.0, "filter_life_pct": 76.0,
        "filter_used_h": 1020.0, "co2_in_ppm": 580.0, "temp_out_c": 18.0, "temp_supply_c": 21.0, "temp_room_c": 22.4,
        "rh_out_pct": 63.0, "pm25_in_ugm3": 96.0, "pm25_out_ugm3": 10.0, "rssi_dbm": -58.0,
    },
}  # fmt: skip
"""Fields as the simulator sends them; see ``MOVING``."""
MOVING = {
    "voltage_v": 0.8, "temp_c": 0.2, "temp_out_c": 0.2, "co2_in_ppm": 6.0, "fan_supply_rpm": 5.0, "pm25_in_ugm3": 2.0,
    "pm25_out_ugm3": 1.0, "rssi_dbm": 3.0,
}  # fmt: skip
"""How far channels go to either side, each time anew."""
HELLOS_AT_ONCE = 200
SPARE_FILES = 1000
PROGRESS_S = 30.0
STILL_S = 10.0
"""Figures of the gateway that stand for so long will not move any more."""
PATIENCE_S = 1800.0
PAGE_MS = 60_000
RECEIVED, TO_SQL, TO_STORE = "brewair_messages_received_total", "brewair_sql_lag_seconds", "brewair_spool_waiting_bytes"
Counts = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the machines are, seconds after they began to speak."""

    at_s: float
    connected: int
    acknowledged: int


@dataclass(frozen=True, slots=True)
class Outcome(Progress):
    """What the machines know at the end: times in ms of the readings acknowledged, by serial; ``cpu_s`` is their own."""

    readings: Mapping[str, Sequence[int]]
    unacknowledged: int
    cpu_s: float


def machines(
    as_json: Annotated[bool, typer.Option("--json", help="One summary line of JSON.")] = False,
    count: Annotated[int, typer.Option(min=1, max=25_000, help="Machines; one address has no more ports.")] = 10_000,
    minutes: Annotated[float, typer.Option(min=0, help="How long they speak once all are connected.")] = 10.0,
    interval_s: Annotated[float, typer.Option(min=0.1, help="Seconds from reading to reading of a machine.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of phases and values.")] = 1,
) -> None:
    """Many machines, each with a connection of its own, through mosquitto and the gateway into InfluxDB: CPU, memory, loss."""
    mosquitto, influxd = rig.find_mosquitto(), rig.find_influxd()
    for program, name in ((mosquitto, "mosquitto (PATH)"), (influxd, "influxd (INFLUXD_BIN, PATH)")):
        if program is None:
            raise UnavailableError("{program} is not on this machine", program=name)
    _allow_files(count + SPARE_FILES)
    fleet = {f"BENCH-{number:05d}": tuple(MODELS)[number % len(MODELS)] for number in range(count)}
    with tempfile.TemporaryDirectory(prefix="brewair-bench-") as place, ExitStack() as stack:
        folder = rig.registered(Path(place), [(serial, kind, MODELS[kind]) for serial, kind in fleet.items()], PER_SITE)
        port, broker = stack.enter_context(rig.mosquitto(str(mosquitto), folder))
        url, token, database = stack.enter_context(rig.influxdb(cast(Path, influxd), folder))
        gateway, counts = stack.enter_context(_gateway(folder, port, url, token))
        rig.wait_for(lambda: counts()["brewair_connected"], "the gateway's subscription")
        at_start_mb = rig.resident_mb(gateway)
        began = time.monotonic()
        pipe = stack.enter_context(rig.part(publisher, port, fleet, interval_s, minutes * 60, seed))
        rig.heard(pipe, "the fleet")
        connect_s = time.monotonic() - began
        _finished(counts, TO_STORE, 2 * count)
        _finished(counts, TO_SQL, 2 * count)
        pids = {"gateway": gateway, "mosquitto": broker, "influxdb": database}
        before, cpu_before, began = counts(), {name: rig.cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
        pipe.send("go")
        while not isinstance(said := rig.heard(pipe, "the fleet"), Outcome):
            typer.echo(
                f"{said.at_s:5.0f} s  {said.connected} connected  {said.acknowledged} acknowledged  gateway "
                f"{rig.resident_mb(gateway):.1f} MB  load {os.getloadavg()[0]:.2f}",
                err=True,
            )
        wall_s = time.monotonic() - began
        cpu_pct = {name: (rig.cpu_s(pid) - cpu_before[name]) / wall_s * 100 for name, pid in pids.items()}
        rss_mb = {name: rig.resident_mb(pid) for name, pid in pids.items()}
        load = os.getloadavg()
        received = before[RECEIVED] + said.acknowledged
        _finished(counts, TO_SQL, received)
        tickets = _tickets(folder)  # of what was said: in four minutes the silence of the end would open some
        after = _finished(counts, TO_STORE, received)
        drain_s = time.monotonic() - began - wall_s
        acknowledged = {(serial, ts) for serial, times in said.readings.items() for ts in times}
        stored = set(_stored(url, token, acknowledged))
        written = after["brewair_readings_stored_total"] - before["brewair_readings_stored_total"]
        summary = {
            "summary": True,
            "machines": count,
            "connected": said.connected,
            "interval_s": interval_s,
            "connect_s": round(connect_s, 1),
            "measured_s": round(wall_s, 1),
            "acknowledged": said.acknowledged,
            "unacknowledged": said.unacknowledged,
            "stored": len(stored),
            "lost": len(acknowledged - stored),
            "doubled": round(written) - len(stored),
            "tickets": tickets,
            "drain_s": round(drain_s, 1),
            "stored_p50_s": _quantile(before, after, 0.50),
            "stored_p99_s": _quantile(before, after, 0.99),
            "gateway_rss_start_mb": round(at_start_mb, 1),
            "gateway_rss_end_mb": round(rss_mb["gateway"], 1),
            "gateway_rss_peak_mb": round(rig.peak_mb(gateway), 1),
            "mosquitto_rss_mb": round(rss_mb["mosquitto"], 1),
            "influxdb_rss_mb": round(rss_mb["influxdb"], 1),
            **{f"{name}_cpu_pct": round(share, 2) for name, share in cpu_pct.items()},
            "fleet_cpu_pct": round(said.cpu_s / wall_s * 100, 2),
            "load_average": [round(one, 2) for one in load],
            "cpus": os.cpu_count(),
        }
        pipe.send("end")
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        for key, figure in summary.items():
            if key != "summary":
                typer.echo(f"{key:22} {'not measured' if figure is None else figure}")


def _allow_files(needed: int) -> None:
    """Let this process and its children open so many files. Raises UnavailableError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UnavailableError(
            "{needed} open files are needed and {hard} allowed: fewer machines, or a higher limit (ulimit -Hn)",
            needed=needed,
            hard=hard,
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextmanager
def _gateway(folder: Path, port: int, url: str, token: str) -> Iterator[tuple[int, Callable[[], Counts]]]:
    """The gateway as a program of its own; gives its process id and a look at its figures."""
    metrics = f"{rig.HOST}:{rig.free_port()}"
    (folder / "token").write_text(token)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BREWAIR_")},
        "BREWAIR_DATA_DIR": str(folder),
        "BREWAIR_MQTT_URL": f"mqtt://{rig.HOST}:{port}",
        "BREWAIR_TELEMETRY_URL": f"influxdb+{url}/bench/bench",
        "BREWAIR_INFLUX_TOKEN_FILE": str(folder / "token"),
        "BREWAIR_METRICS_BIND": metrics,
    }
    with (folder / "gateway.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "gateway"], env=environ, stdout=log, stderr=log)

    def counts() -> Counts:
        try:
            text = urllib3.request("GET", f"http://{metrics}/metrics", retries=False).data.decode()
        except urllib3.exceptions.HTTPError:
            if process.poll() is not None:
                raise UnavailableError("The gateway has ended: {log}", log=_end_of(folder / "gateway.log")) from None
            return {"brewair_connected": 0.0}
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return {f"{one.name}{one.labels.get('le', '')}": one.value for one in samples}

    try:
        yield process.pid, counts
    finally:
        process.terminate()
        process.wait(60)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-500:]


def _finished(counts: Callable[[], Counts], backlog: str, received: float) -> Counts:
    """The gateway's figures when so many messages have come, or no more do, and ``backlog`` is gone."""
    seen, since = counts(), time.monotonic()

    def done() -> bool:
        nonlocal seen, since
        now = counts()
        if now[RECEIVED] != seen[RECEIVED]:
            since = time.monotonic()
        seen = now
        return not now[backlog] and (now[RECEIVED] >= received or time.monotonic() - since > STILL_S)

    rig.wait_for(done, "the gateway to finish", PATIENCE_S)
    return seen


def _stored(url: str, token: str, acknowledged: set[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Serial and time (ms) of every point that InfluxDB holds from the first to the last of ``acknowledged``, page by page."""
    times = [ts for _, ts in acknowledged]
    for kind in MODELS:
        for since in range(min(times, default=0), max(times, default=-1) + 1, PAGE_MS):
            query = f'SELECT power_w, serial FROM "{kind}" WHERE time >= {since}ms AND time < {since + PAGE_MS}ms'  # noqa: S608
            answer = urllib3.request(
                "GET",
                f"{url}/query",
                fields={"db": "bench", "epoch": "ms", "q": query},
                headers={"Authorization": f"Token {token}"},
                timeout=rig.TIMEOUT_S,
            )
            for series in answer.json()["results"][0].get("series", ()):
                yield from ((serial, ts) for ts, _, serial in series["values"])


def _tickets(folder: Path) -> int:
    """Tickets in the gateway's database."""
    engine = open_engine(f"sqlite:///{folder / 'brewair.db'}")
    with Sessions(engine).read() as session:
        found = session.scalar(select(func.count()).select_from(Ticket)) or 0
    engine.dispose()
    return found


def _quantile(before: Counts, after: Counts, share: float) -> float | None:
    """Seconds from receipt to storage between two looks, straight lines within a class; None where nothing was stored."""
    name = "brewair_rx_to_stored_seconds_bucket"
    counted = {key.removeprefix(name): after[key] - before[key] for key in after if key.startswith(name)}
    wanted, low, below = counted["+Inf"] * share, 0.0, 0.0
    for limit, messages in counted.items():
        if messages and messages >= wanted:
            high = float(limit)
            return None if high == inf else round(low + (high - low) * (wanted - below) / (messages - below), 3)
        low, below = float(limit), messages
    return None


# --- the fleet: a process of its own


def publisher(
    pipe: Connection, port: int, fleet: Mapping[str, str], interval_s: float, seconds: float, seed: int
) -> None:
    """All machines (equipment type by serial); says when all are connected, is told to go, says what came of it."""
    asyncio.run(_live(pipe, port, fleet, interval_s, seconds, seed))


async def _live(
    pipe: Connection, port: int, fleet: Mapping[str, str], interval_s: float, seconds: float, seed: int
) -> None:
    loop, rng = asyncio.get_running_loop(), random.Random(seed)  # noqa: S311
    everyone = [_Machine(serial, kind, interval_s, random.Random(rng.random())) for serial, kind in fleet.items()]  # noqa: S311
    at_the_door = asyncio.Semaphore(HELLOS_AT_ONCE)

    async def enter(machine: _Machine) -> None:
        async with at_the_door:
            await loop.create_connection(lambda: machine, rig.HOST, port)
            await asyncio.wait_for(machine.known, rig.TIMEOUT_S)

    async with asyncio.TaskGroup() as entering:
        for machine in everyone:
            entering.create_task(enter(machine))
    pipe.send("connected")
    await asyncio.to_thread(pipe.recv)

    def progress() -> Progress:
        return Progress(
            loop.time() - began,
            sum(machine.connected for machine in everyone),
            sum(len(machine.acknowledged) for machine in everyone),
        )

    began, cpu_before = loop.time(), time.process_time()
    for machine in everyone:
        machine.begin(loop.time() + machine.rng.random() * interval_s)
    while (left_s := began + seconds - loop.time()) > 0:
        await asyncio.sleep(min(PROGRESS_S, left_s))
        pipe.send(progress())
    for machine in everyone:
        machine.begin(inf)
    deadline = loop.time() + rig.TIMEOUT_S / 2
    while any(machine.waiting for machine in everyone if machine.connected) and loop.time() < deadline:
        await asyncio.sleep(0.02)
    end = progress()
    readings = {machine.serial: machine.acknowledged for machine in everyone}
    left = sum(len(machine.waiting) for machine in everyone)
    pipe.send(Outcome(end.at_s, end.connected, end.acknowledged, readings, left, time.process_time() - cpu_before))
    await asyncio.to_thread(pipe.recv)
    for machine in everyone:
        machine.leave()


class _Machine(asyncio.Protocol):
    """One machine and its session. ``waiting``: packets without PUBACK, with the time of their reading, or 0."""

    def __init__(self, serial: str, kind: str, interval_s: float, rng: random.Random) -> None:
        self.serial, self.kind, self.rng = serial, kind, rng
        self.acknowledged: list[int] = []
        self.waiting: dict[bytes, int] = {}
        self.connected = False
        self.known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._interval_s, self._boot = interval_s, f"{rng.randrange(36**4):x}"
        self._clock, self._loop, self._decoder = SystemClock(), asyncio.get_running_loop(), codec.Decoder()
        self._topic = wire.up(kind, serial, "telemetry")
        self._seq = self._packets = 0
        self._due = inf
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce the machine, with a last will."""
        self._transport = cast(asyncio.Transport, transport)
        will = (wire.up(self.kind, self.serial, "status"), wire.OFFLINE)
        self._send(codec.connect(self.serial, clean=True, keepalive_s=KEEPALIVE_S, will=will))

    def data_received(self, data: bytes) -> None:
        """What the broker says. Of commands there are none."""
        for packet in self._decoder.feed(data):
            if isinstance(packet, codec.Connack):
                self._enter(packet.code)
            elif isinstance(packet, codec.Ack) and packet.kind == codec.PUBACK:
                if ts := self.waiting.pop(packet.mid):
                    self.acknowledged.append(ts)
                elif not self.waiting and not self.known.done():
                    self.known.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """It stays away: the summary says how many did."""
        self.connected = False
        if self._timer is not None:
            self._timer.cancel()
        if not self.known.done():
            self.known.set_exception(UnavailableError("The broker has turned {serial} away", serial=self.serial))

    def begin(self, at: float) -> None:
        """The next reading is due at ``at`` of the loop's clock; inf: none."""
        self._due = at
        self._wind()

    def leave(self) -> None:
        """Say goodbye; the will is not said then."""
        if self.connected:
            self._send(codec.BYE)
            self._transport.close()

    def _enter(self, code: int) -> None:
        if code:
            self._transport.abort()
            return
        self.connected = True
        self._send(codec.subscribe(self._packet_id(), [wire.down_command(self.kind, self.serial)]))
        birth = {
            "ts": to_ms(self._clock.now()),
            "boot": self._boot,
            "model": MODELS[self.kind],
            "fw": "1.4.2",
            "interval_s": self._interval_s,
        }
        for what, payload in (("birth", orjson.dumps(birth)), ("status", wire.ONLINE)):
            self._publish(wire.up(self.kind, self.serial, what), payload, retain=True)
        self._wind()

    def _wind(self) -> None:
        """Wake for the next reading, or to show that the machine is there."""
        if self._timer is not None:
            self._timer.cancel()
        if self.connected:
            self._timer = self._loop.call_at(min(self._due, self._sent_at + KEEPALIVE_S), self._wake)

    def _wake(self) -> None:
        if self._loop.time() >= self._due:
            self._due += self._interval_s
            self._read()
        else:
            self._send(codec.PING)
        self._wind()

    def _read(self) -> None:
        self._seq += 1
        ts = to_ms(self._clock.now())
        sample: dict[str, Any] = {"ts": ts, "boot": self._boot, "seq": self._seq, **HEALTHY[self.kind]}
        for channel, reach in MOVING.items():
            if channel in sample:
                sample[channel] = round(sample[channel] + self.rng.uniform(-reach, reach), 1)
        self._publish(self._topic, orjson.dumps(sample), ts)

    def _publish(self, topic: str, payload: bytes, ts: int = 0, *, retain: bool = False) -> None:
        mid = self._packet_id()
        self.waiting[mid] = ts
        self._send(codec.publish(topic, payload, mid, retain=retain))

    def _packet_id(self) -> bytes:
        self._packets = self._packets % 0xFFFF + 1
        return self._packets.to_bytes(2, "big")

    def _send(self, packet: bytes) -> None:
        self._sent_at = self._loop.time()
        self._transport.write(packet)
