"""The parts of the benchmarks: what sends, what is measured, what takes in. Each is a process of its own.

Every part is a function that runs in a child process and speaks through a pipe: it says when it is ready, is told to go,
and says what it found. Broker and publisher keep a window of messages open and wait for acknowledgements: nothing is lost.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import urllib3

from domain import wire
from domain.clock import SystemClock, to_ms
from domain.errors import UnavailableError
from domain.settings import load
from domain.store.schema import upgrade
from domain.store.session import Sessions, open_engine
from domain.store.tables import Customer, Equipment, Site
from domain.telemetry.stores import open_telemetry
from gateway.__main__ import log_lines, spare_memory, spare_the_collector
from gateway.ingest import mqtt_codec as codec
from gateway.ingest.receiver import Receiver
from gateway.ingest.receivers import RECEIVERS
from gateway.service import running, subscriptions

HOST = "127.0.0.1"
MACHINES = 1000
WINDOW = 20_000
STEP_MS = 10_000
TIMEOUT_S = 300.0
ANSWERS = {codec.CONNECT: b"\x20\x02\x00\x00", codec.PINGREQ: b"\xd0\x00"}
PUBACK_BYTES = 4


def registered(place: Path, machines: Sequence[tuple[str, str, str]], per_site: int = MACHINES) -> Path:
    """A data folder in which ``machines`` (serial, equipment type, model) are registered, ``per_site`` at a site.

    As rows: by the desk's command, which looks at every one from all sides, ten thousand take minutes.
    """
    folder = place / "registered"
    folder.mkdir()
    engine = open_engine(f"sqlite:///{folder / 'brewair.db'}")
    upgrade(engine)
    now = SystemClock().now()
    with Sessions(engine).command() as session:
        customer = Customer(name="bench", created_at=now)
        for number, (serial, equipment_type, model) in enumerate(machines):
            if number % per_site == 0:
                site = Site(customer=customer, name=f"bench {number // per_site}", created_at=now)
            session.add(Equipment(serial=serial, type=equipment_type, model=model, site=site, created_at=now))
    engine.dispose()
    return folder


@contextmanager
def part(work: Callable[..., None], *given: Any) -> Iterator[Connection]:
    """A part in a process of its own; gives our end of the pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *given), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def heard(pipe: Connection, what: str) -> Any:
    """What a part says. Raises UnavailableError when it says nothing or has failed."""
    try:
        if pipe.poll(TIMEOUT_S):
            return pipe.recv()
    except EOFError:
        raise UnavailableError("{what} has failed", what=what) from None
    raise UnavailableError("{what} does not answer", what=what)


def serials() -> list[str]:
    """The machines that speak."""
    return [f"BENCH-{number:04d}" for number in range(MACHINES)]


def packets(messages: int, readings: int, first_ms: int) -> list[bytes]:
    """QoS 1 PUBLISH packets of healthy machines at rest, in turn; times go on by ten seconds per reading."""
    topics = [wire.up("soymilk", serial, "telemetry") for serial in serials()]
    made: list[bytes] = []
    for number in range(messages):
        done = number // MACHINES * readings
        body = ",".join(
            f'{{"ts":{first_ms + at * STEP_MS},"seq":{at},"run_state":"standby","power_w":{8 + at % 3}.0,'
            f'"voltage_v":{379 + at % 4}.6,"current_a":0.05,"temp_c":2{at % 9}.4,"water_flow_lpm":0.0,'
            f'"water_level_pct":8{at % 9}.0,"rssi_dbm":-6{at % 9}.0}}'
            for at in range(done, done + readings)
        )
        payload = f"[{body}]" if readings > 1 else body
        made.append(
            codec.publish(topics[number % MACHINES], payload.encode(), (number % 60_000 + 1).to_bytes(2, "big"))
        )
    return made


def pump(connection: socket.socket, made: list[bytes]) -> None:
    """Send everything, never more than WINDOW ahead of the acknowledgements."""
    sent = acknowledged = 0
    while acknowledged < len(made) * PUBACK_BYTES:
        until = min(len(made), acknowledged // PUBACK_BYTES + WINDOW)
        if until > sent:
            connection.sendall(b"".join(made[sent:until]))
            sent = until
        answer = connection.recv(1 << 18)
        if not answer:
            raise UnavailableError("The other side has closed the connection")
        acknowledged += len(answer)


def greet(connection: socket.socket) -> None:
    """Answer a client until it has subscribed."""
    decoder = codec.Decoder()
    while data := connection.recv(1 << 16):
        for packet in decoder.feed(data):
            if isinstance(packet, codec.Control) and packet.kind == codec.SUBSCRIBE:
                granted, at = b"", 2
                while at < len(packet.body):
                    at, granted = at + 3 + int.from_bytes(packet.body[at : at + 2], "big"), granted + b"\1"
                connection.sendall(bytes((codec.SUBACK << 4, 2 + len(granted))) + packet.body[:2] + granted)
                return
            if isinstance(packet, codec.Control):
                connection.sendall(ANSWERS.get(packet.kind, b""))
    raise UnavailableError("The client has closed the connection")


def stub_broker(pipe: Connection, messages: int, readings: int, first_ms: int) -> None:
    """A broker that costs next to nothing: one client, packets made beforehand."""
    made = packets(messages, readings, first_ms)
    with socket.create_server((HOST, 0)) as listener:
        pipe.send(listener.getsockname()[1])
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greet(connection)
        pipe.send("subscribed")
        pipe.recv()
        pump(connection, made)
        pipe.send("done")
        pipe.recv()  # the connection stays until everybody has finished
        connection.close()


def publisher(pipe: Connection, port: int, messages: int, readings: int, first_ms: int) -> None:
    """All machines behind one connection to a real broker."""
    made = packets(messages, readings, first_ms)
    with socket.create_connection((HOST, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(codec.connect("bench-machines", clean=True))
        connection.recv(4)
        pipe.send("ready")
        pipe.recv()
        pump(connection, made)
        pipe.send("done")


class _Sink(BaseHTTPRequestHandler):
    """As much of InfluxDB as a writer wants to see; counts lines."""

    protocol_version = "HTTP/1.1"
    lines = 0
    one: Mapping[str, Any] = {
        "id": "1", "orgID": "1", "name": "bench", "bucketID": "1", "retentionRules": [], "flux": "",
    }  # fmt: skip
    """An organisation, bucket, mapping or task: whatever is asked for."""

    def do_POST(self) -> None:
        body = self._body()
        if self.path.startswith("/api/v2/write"):
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            _Sink.lines += body.count(b"\n") + (not body.endswith(b"\n"))
            self._answer(204)
        else:
            self._answer(201, {"id": "1"})

    def do_PATCH(self) -> None:
        self._body()
        self._answer(200, self.one)

    def do_GET(self) -> None:
        kind = self.path.split("?")[0].rpartition("/")[2]
        known = {"orgs": "orgs", "buckets": "buckets", "dbrps": "content", "tasks": "tasks"}
        self._answer(200, {known.get(kind, "none"): [self.one], "lines": _Sink.lines})

    def _body(self) -> bytes:
        """The request's body, in one piece or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, body: Mapping[str, Any] | None = None) -> None:
        encoded = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def sink(pipe: Connection) -> None:
    """An HTTP server in InfluxDB's place; every message through the pipe is answered with the lines so far."""
    server = ThreadingHTTPServer((HOST, 0), _Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(server.server_address[1])
    with suppress(EOFError):
        while pipe.recv() != "end":
            pipe.send(_Sink.lines)
    server.shutdown()


def gateway(pipe: Connection, environ: Mapping[str, str], messages: int, readings: int) -> None:
    """The whole gateway: spool with fdatasync, decoding, all rules, line protocol."""
    spare_memory()
    log_lines()
    spare_the_collector()
    with running(load(environ), SystemClock()) as subject:
        wait_for(lambda: subject.receiver.connected, "the gateway's subscription")

        def finished() -> bool:
            pipeline = subject.pipeline
            return pipeline.writer.stored >= messages * readings and pipeline.detection.caught_up

        _measure(pipe, lambda: wait_for(finished, "everything to be stored and detected"))


def discard(pipe: Connection, environ: Mapping[str, str], messages: int, readings: int) -> None:
    """A receiver alone: everything is acknowledged and thrown away."""
    log_lines()
    settings = load(environ)
    settings.spool_dir.mkdir(parents=True)
    receiver: Receiver = RECEIVERS[settings.mqtt_receiver](
        settings,
        client_id="bench-discard",
        filters=subscriptions(settings.shards),
        memory=settings.spool_dir / "subscriptions",
        clock=SystemClock(),
        rng=random.Random(1),  # noqa: S311
    )
    wait_for(lambda: (receiver.receive(0.05), receiver.connected)[1], "the receiver's subscription")

    def work() -> None:
        left = messages
        while left > 0:
            batch = receiver.receive(0.1)
            receiver.ack(batch)
            left -= batch.count

    _measure(pipe, work)
    receiver.close()


def _measure(pipe: Connection, work: Callable[[], None]) -> None:
    """Say ready; when told to go, work; say seconds of CPU and megabytes of memory at most."""
    pipe.send("ready")
    pipe.recv()
    before = time.process_time()
    work()
    pipe.send((time.process_time() - before, peak_mb("self")))


def peak_mb(pid: int | str) -> float:
    """Most resident memory that a process has had."""
    return _memory_mb(pid, "VmHWM")


def resident_mb(pid: int | str) -> float:
    """Resident memory of a process now."""
    return _memory_mb(pid, "VmRSS")


def _memory_mb(pid: int | str, which: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{which}:")[1].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(condition: Callable[[], object], what: str, patience_s: float = TIMEOUT_S) -> None:
    """Look every 20 ms. Raises UnavailableError when that lasts longer than ``patience_s``."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise UnavailableError("Waited {seconds} s in vain for {what}", seconds=patience_s, what=what)
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def find_mosquitto() -> str | None:
    """mosquitto on the PATH or in a folder for administrators."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
max_inflight_messages 20000
max_queued_messages 1000000
"""


@contextmanager
def mosquitto(program: str, folder: Path) -> Iterator[tuple[int, int]]:
    """A broker of our own; gives port and process id."""
    port = free_port()
    (folder / "mosquitto.conf").write_text(MOSQUITTO.format(port=port))
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(folder / "mosquitto.conf")], stdout=log, stderr=log)

    def answers() -> bool:
        with suppress(OSError), socket.create_connection((HOST, port), 1.0):
            return True
        return False

    try:
        wait_for(answers, "mosquitto")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)


TELEGRAF = """\
[agent]
  metric_batch_size = 5000
  metric_buffer_limit = 200000
  flush_interval = "1s"
  omit_hostname = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{broker}"]
  topics = ["brewair/v1/+/+/+/up/#"]
  qos = 1
  persistent_session = true
  client_id = "bench-telegraf"
  max_undelivered_messages = 20000
  topic_tag = ""
  data_format = "json"
  json_time_key = "ts"
  json_time_format = "unix_ms"
  json_string_fields = ["run_state"]
  [[inputs.mqtt_consumer.topic_parsing]]
    topic = "brewair/v1/+/+/+/up/telemetry"
    measurement = "_/_/_/measurement/_/_/_"
    tags = "_/_/_/_/serial/_/_"
[[outputs.influxdb_v2]]
  urls = ["http://127.0.0.1:{sink}"]
  token = "bench"
  organization = "bench"
  bucket = "bench"
  content_encoding = "identity"
"""
"""Tuned as fairly as we know how (gateway.md, section 2); on the same machine nothing is compressed, as ours."""


@contextmanager
def telegraf(program: str, folder: Path, broker: int, sink_port: int) -> Iterator[int]:
    """Telegraf with its configuration; gives its process id."""
    (folder / "telegraf.conf").write_text(TELEGRAF.format(broker=broker, sink=sink_port))
    with (folder / "telegraf.log").open("wb") as log:
        process = subprocess.Popen([program, "--config", str(folder / "telegraf.conf")], stdout=log, stderr=log)
    try:
        wait_for(lambda: b"Connected" in (folder / "telegraf.log").read_bytes(), "Telegraf's connection")
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def find_influxd() -> Path | None:
    """influxd by INFLUXD_BIN, on the PATH, or where ``.ci/servers`` has built it."""
    named = os.environ.get("INFLUXD_BIN") or shutil.which("influxd")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "brewair" / "servers"
    built = sorted(cache.glob("influxd-*/influxd"))
    return Path(named) if named else built[-1] if built else None


@contextmanager
def influxdb(program: Path, folder: Path) -> Iterator[tuple[str, str, int]]:
    """An InfluxDB of our own; gives its address, a token that may do everything, and its process id."""
    port = free_port()
    url, token = f"http://{HOST}:{port}", secrets.token_urlsafe(24)
    places = {"bolt-path": "influxd.bolt", "engine-path": "engine", "sqlite-path": "influxd.sqlite"}
    command = [str(program), f"--http-bind-address={HOST}:{port}", "--reporting-disabled", "--log-level=warn"]
    command += [f"--{option}={folder / name}" for option, name in places.items()]
    with (folder / "influxd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def made() -> bool:
        with suppress(urllib3.exceptions.HTTPError, OSError):
            body = {"username": "bench", "password": token, "org": "bench", "bucket": "bench", "token": token}
            return urllib3.request("POST", f"{url}/api/v2/setup", json=body, retries=False).status < 300
        return False

    try:
        wait_for(made, "InfluxDB")
        yield url, token, process.pid
    finally:
        process.terminate()
        process.wait(30)


def queryable(pipe: Connection, environ: Mapping[str, str], port: int, seconds: float) -> None:
    """A hundred messages a second; says for each how long after its sending a query first had it (seconds)."""
    log_lines()
    settings = load(environ)
    telemetry, clock = open_telemetry(settings), SystemClock()
    serial = serials()[0]
    topic = wire.up("soymilk", serial, "telemetry")
    with running(settings, clock) as subject, socket.create_connection((HOST, port)) as connection:
        wait_for(lambda: subject.receiver.connected and subject.patience["telemetry"].well, "the gateway")
        connection.sendall(codec.connect("bench-latency", clean=True))
        connection.recv(4)
        sent: dict[int, float] = {}
        delays: dict[int, float] = {}
        began, number = time.monotonic(), 0
        while len(delays) < number or time.monotonic() - began < seconds:
            if number < (time.monotonic() - began) * 100 and time.monotonic() - began < seconds:
                ts = to_ms(clock.now()) + number % 2  # two in one millisecond would be one point
                if ts not in sent:
                    number += 1
                    sent[ts] = time.monotonic()
                    body = b'{"ts":%d,"seq":%d,"run_state":"standby","power_w":8.0}' % (ts, number)
                    connection.sendall(codec.publish(topic, body, (number % 60_000 + 1).to_bytes(2, "big")))
                continue
            with suppress(UnavailableError):  # InfluxDB has not seen the measurement yet
                for row in telemetry.range(
                    serial, "soymilk", min(sent.keys() - delays.keys(), default=0), max(sent) + 1
                ):
                    if row.ts in sent:
                        delays.setdefault(row.ts, time.monotonic() - sent[row.ts])
            time.sleep(0.01)
        pipe.send(list(delays.values()))
