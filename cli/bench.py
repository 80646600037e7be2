"""``brewair bench``: what the programs cost, in ratios measured on one machine in one go."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import bench_rig as rig
from cli.bench_machines import machines
from domain.clock import SystemClock, to_ms
from domain.errors import InvalidError

app = typer.Typer(help="Benchmarks; figures are medians of interleaved rounds.", no_args_is_help=True)

SCENARIOS = {"stub": 1, "mosquitto": 1, "batched": 10}
"""Readings per message; a real broker is between in all but the first."""
RECEIVERS = ("native", "paho", "telegraf", "null")
LATEST_MARGIN = timedelta(minutes=1)


@app.callback()
def bench() -> None:
    """Benchmarks; figures are medians of interleaved rounds."""


app.command()(machines)


@dataclass(frozen=True, slots=True)
class Round:
    """One run. ``us_per_msg`` is CPU of the measured process alone, ``broker_us_per_msg`` that of mosquitto."""

    round: int
    scenario: str
    receiver: str
    msgs_per_s: float
    us_per_msg: float
    rss_mb: float
    broker_us_per_msg: float | None


@app.command()
def gateway(
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a line.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of every combination.")] = 3,
    messages: Annotated[int, typer.Option(min=1000, help="Messages per run; a fifth of them where batched.")] = 200_000,
    scenario: Annotated[list[str] | None, typer.Option(help="stub, mosquitto, batched; default all.")] = None,
    receiver: Annotated[list[str] | None, typer.Option(help="native, paho, telegraf, null; default all.")] = None,
    null: Annotated[
        bool, typer.Option("--null", help="Only what mosquitto itself can do: a subscriber that discards.")
    ] = False,
    core: Annotated[str, typer.Option(help="auto, compiled, python: what works off ordinary messages.")] = "auto",
    latency_s: Annotated[
        float, typer.Option(min=0, help="Seconds of publish-to-queryable with InfluxDB; 0: not.")
    ] = 20.0,
    receive_only: Annotated[
        bool, typer.Option(help="Receivers alone: what they receive is acknowledged and thrown away.")
    ] = False,
) -> None:
    """CPU per message and throughput at QoS 1: whole gateway (spool, fdatasync, all rules, line protocol) into a sink
    that counts lines. null discards at once: what the broker can do. Telegraf runs where TELEGRAF_BIN names it."""
    telegraf, mosquitto = os.environ.get("TELEGRAF_BIN", ""), rig.find_mosquitto()
    if null:
        scenario, receiver, latency_s = ["mosquitto"], ["null"], 0.0
    scenarios, receivers = _chosen(scenario, tuple(SCENARIOS)), _chosen(receiver, RECEIVERS)
    if "telegraf" in receivers and not telegraf:
        typer.echo("TELEGRAF_BIN is not set: Telegraf is not measured, its ratios are null", err=True)
    if mosquitto is None and scenarios != ["stub"]:
        typer.echo("mosquitto is not on this machine: only the stub is measured, other figures are null", err=True)
        scenarios = [one for one in scenarios if one == "stub"]
    measured: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="brewair-bench-") as place:
        database = rig.registered(Path(place), [(serial, "soymilk", "SMM-60") for serial in rig.serials()])
        for number in range(1, rounds + 1):
            for scene in scenarios:
                for who in receivers:
                    if who == "telegraf" and (not telegraf or scene == "batched"):
                        continue
                    folder = Path(place) / f"{number}-{scene}-{who}"
                    shutil.copytree(database, folder)
                    count = messages if SCENARIOS[scene] == 1 else messages // 5
                    discard = receive_only or who == "null"
                    run = _Run(folder, scene, who, count, discard, mosquitto or "", telegraf, core)
                    measured.append(one := run.measure(number))
                    shutil.rmtree(folder)
                    _show(one, as_json)
        latency = _latency(Path(place), database, mosquitto, latency_s, core)
    summary = {**_summary(measured), **latency}
    if as_json:
        typer.echo(json.dumps({**summary, "receive_only": receive_only, "cpus": os.cpu_count()}))
    else:
        for key, figure in summary.items():
            if key not in ("summary", "rounds"):
                typer.echo(f"{key:26} {'not measured' if figure is None else figure}")


def _chosen(given: list[str] | None, known: tuple[str, ...]) -> list[str]:
    for one in given or ():
        if one not in known:
            raise InvalidError("{given} is not one of {known}", given=one, known=", ".join(known))
    return [one for one in known if one in (given or known)]


@dataclass(frozen=True, slots=True)
class _Run:
    folder: Path
    scenario: str
    receiver: str
    messages: int
    discard: bool
    mosquitto: str
    telegraf: str
    core: str

    def measure(self, number: int) -> Round:
        readings = SCENARIOS[self.scenario]
        steps = -(-self.messages // rig.MACHINES) * readings
        first_ms = to_ms(SystemClock().now() - LATEST_MARGIN) - steps * rig.STEP_MS
        flow_of = (self.messages, readings, first_ms)
        with ExitStack() as stack:
            into = stack.enter_context(rig.part(rig.sink))
            sink_port = rig.heard(into, "the sink")
            if self.scenario == "stub":
                broker_pid, flow = None, stack.enter_context(rig.part(rig.stub_broker, *flow_of))
                port = rig.heard(flow, "the stub broker")
            else:
                port, broker_pid = stack.enter_context(rig.mosquitto(self.mosquitto, self.folder))
            cost = self._subject(stack, port, sink_port, readings, into)
            if self.scenario != "stub":
                flow = stack.enter_context(rig.part(rig.publisher, port, *flow_of))
            rig.heard(flow, "the publisher")
            broker_before = rig.cpu_s(broker_pid) if broker_pid else 0.0
            began = time.monotonic()
            flow.send("go")
            cpu, rss_mb = cost()
            wall = time.monotonic() - began
            broker = (rig.cpu_s(broker_pid) - broker_before) / self.messages * 1e6 if broker_pid else None
            rig.heard(flow, "the publisher")
            if self.scenario == "stub":
                flow.send("end")
            into.send("end")
        return Round(
            number,
            self.scenario,
            self.receiver,
            round(self.messages / wall, 1),
            round(cpu / self.messages * 1e6, 2),
            round(rss_mb, 1),
            None if broker is None else round(broker, 2),
        )

    def _subject(
        self, stack: ExitStack, port: int, sink_port: int, readings: int, into: Connection
    ) -> Callable[[], tuple[float, float]]:
        """Start what is measured; gives a function that waits for its end and says seconds of CPU and megabytes."""
        if self.receiver == "telegraf":
            pid = stack.enter_context(rig.telegraf(self.telegraf, self.folder, port, sink_port))
            before = rig.cpu_s(pid)

            def written() -> bool:
                into.send("lines")
                return bool(rig.heard(into, "the sink") >= self.messages * readings)

            def until_written() -> tuple[float, float]:
                rig.wait_for(written, "Telegraf's lines")
                return rig.cpu_s(pid) - before, rig.peak_mb(pid)

            return until_written
        (self.folder / "token").write_text("bench")
        environ = {
            "BREWAIR_DATA_DIR": str(self.folder),
            "BREWAIR_MQTT_URL": f"mqtt://{rig.HOST}:{port}",
            "BREWAIR_MQTT_RECEIVER": "paho" if self.receiver == "paho" else "native",
            "BREWAIR_GATEWAY_CORE": self.core,
            "BREWAIR_TELEMETRY_URL": f"influxdb+http://{rig.HOST}:{sink_port}/bench/bench",
            "BREWAIR_INFLUX_TOKEN_FILE": str(self.folder / "token"),
        }
        work = rig.discard if self.discard else rig.gateway
        pipe = stack.enter_context(rig.part(work, environ, self.messages, readings))
        rig.heard(pipe, "the gateway")

        def until_done() -> tuple[float, float]:
            cpu, rss_mb = rig.heard(pipe, "the gateway")
            return cpu, rss_mb

        pipe.send("go")
        return until_done


def _latency(place: Path, database: Path, mosquitto: str | None, seconds: float, core: str) -> dict[str, float | None]:
    """Publish-to-queryable through mosquitto, the gateway and a real InfluxDB at 100 messages a second: seconds, or null."""
    missing: dict[str, float | None] = {"queryable_p50_s": None, "queryable_p99_s": None}
    influxd = rig.find_influxd()
    if not seconds or mosquitto is None:
        return missing
    if influxd is None:
        typer.echo("influxd is not on this machine (INFLUXD_BIN, PATH): publish-to-queryable is not measured", err=True)
        return missing
    folder = place / "latency"
    shutil.copytree(database, folder)
    with ExitStack() as stack:
        port, _ = stack.enter_context(rig.mosquitto(mosquitto, folder))
        url, token, _ = stack.enter_context(rig.influxdb(influxd, folder))
        (folder / "token").write_text(token)
        environ = {
            "BREWAIR_DATA_DIR": str(folder),
            "BREWAIR_MQTT_URL": f"mqtt://{rig.HOST}:{port}",
            "BREWAIR_GATEWAY_CORE": core,
            "BREWAIR_TELEMETRY_URL": f"influxdb+{url}/bench/bench",
            "BREWAIR_INFLUX_TOKEN_FILE": str(folder / "token"),
        }
        delays = stack.enter_context(rig.part(rig.queryable, environ, port, seconds))
        found = sorted(rig.heard(delays, "the latency of the gateway"))
    return {
        "queryable_p50_s": round(found[len(found) // 2], 3),
        "queryable_p99_s": round(found[int(len(found) * 0.99)], 3),
    }


def _show(one: Round, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(one)))
        return
    broker = f"  broker {one.broker_us_per_msg:6.2f} us" if one.broker_us_per_msg is not None else ""
    typer.echo(
        f"{one.round} {one.scenario:10} {one.receiver:9} {one.msgs_per_s:>10,.0f} msg/s "
        f"{one.us_per_msg:>8.2f} us/msg {one.rss_mb:>7.1f} MB{broker}"
    )


def _summary(measured: list[Round]) -> dict[str, Any]:
    """All rounds, and ratios of medians; null where one side was not measured."""

    def median(figure: str, scenario: str, receiver: str) -> float | None:
        found = [getattr(one, figure) for one in measured if (one.scenario, one.receiver) == (scenario, receiver)]
        return statistics.median(found) if found else None

    def ratio(above: float | None, below: float | None, factor: float = 1.0) -> float | None:
        return round(above / below * factor, 3) if above and below else None

    def cost(scenario: str, receiver: str) -> float | None:
        return median("us_per_msg", scenario, receiver)

    def speed(scenario: str, receiver: str) -> float | None:
        return median("msgs_per_s", scenario, receiver)

    return {
        "summary": True,
        "rounds": [asdict(one) for one in measured],
        "ratio_telegraf_stub": ratio(cost("stub", "telegraf"), cost("stub", "native")),
        "ratio_telegraf_mosquitto": ratio(cost("mosquitto", "telegraf"), cost("mosquitto", "native")),
        "ratio_paho_stub": ratio(cost("stub", "paho"), cost("stub", "native")),
        "share_of_null": ratio(speed("mosquitto", "native"), speed("mosquitto", "null")),
        "batched_gain": ratio(speed("batched", "native"), speed("mosquitto", "native"), SCENARIOS["batched"]),
    }
