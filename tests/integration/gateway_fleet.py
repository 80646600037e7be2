"""Publishers that log every PUBACK, a gateway as a process of its own, and the checker that compares sets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

from domain import wire
from tests.servers import InfluxDB, Mosquitto, wait_until

Sample = tuple[str, int]
"""(serial, ts): the identity of a stored point."""


class GatewayProcess:
    """``python -m gateway`` with settings of its own; may be killed and started again at any time. With ``options`` it is
    ``brewair gateway OPTIONS``."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.program = ["cli.main", "gateway", *options] if options else ["gateway"]
        self.log_path = folder / "gateway.log"
        self.settings = settings
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BREWAIR_")}
        self._environment = {**clean, "BREWAIR_DATA_DIR": str(folder / "data"), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._connections_before = 0
        self._peak_mib = 0.0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process that was started is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        lines = self.log_path.read_text(encoding="utf-8").splitlines() if self.log_path.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def said(self, event: str) -> int:
        """How often it has said ``event`` so far."""
        return sum(line.get("event") == event for line in self.events)

    def peak_mib(self) -> float:
        """The largest resident size of all its lives so far."""
        self._look_at_peak()
        return self._peak_mib

    def _look_at_peak(self) -> None:
        with suppress(OSError, IndexError):  # it has ended by itself
            status = Path(f"/proc/{self.pid}/status").read_text() if self._process is not None else ""
            self._peak_mib = max(self._peak_mib, int(status.partition("VmHWM:")[2].split()[0]) / 1024)

    def start(self, *wrapper: str) -> None:
        """Start it; ``wrapper`` is a program that runs it. Entering ``with`` has already started it."""
        assert self._process is None, "two gateways of one client id would take the session over from each other"
        self._connections_before = self.said("broker_connected")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", *self.program],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_connected(self) -> None:
        """Wait for the first connection since it was started."""
        wait_until(
            lambda: self.said("broker_connected") > self._connections_before,
            timeout_s=60,
            what="the gateway's connection",
        )

    def wait(self, timeout_s: float = 60.0) -> int:
        """Until it ends by itself; returns its exit status."""
        self._look_at_peak()
        assert self._process is not None
        process, self._process = self._process, None
        return process.wait(timeout_s)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, by: signal.Signals) -> int:
        self._look_at_peak()
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(by)
        try:
            return process.wait(timeout=60)
        finally:
            if by is signal.SIGKILL or process.returncode is None:
                with suppress(ProcessLookupError):  # a wrapper such as strace must not leave it behind
                    os.killpg(process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            print(self.log_path.read_text(encoding="utf-8")[-6000:])


Said = tuple[str, int, int, dict[str, Any]]
"""(serial, ts, seq, values) of a sample as a machine said it."""


class Publisher:
    """Machines behind one QoS 1 connection; ``acked`` holds every sample whose PUBACK came, ``said`` all in their order."""

    def __init__(self, broker: Mosquitto, name: str) -> None:
        self.acked: set[Sample] = set()
        self.said: list[Said] = []
        self._waiting: deque[tuple[int, list[Sample]]] = deque()
        self._pubacks: set[int] = set()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"fleet-{name}", clean_session=False)
        self._client.max_inflight_messages_set(1000)
        self._client.max_queued_messages_set(0)
        self._client.reconnect_delay_set(1, 1)
        self._interrupted = threading.Event()
        self._client.on_disconnect = lambda *_: self._interrupted.set()
        self._client.on_publish = lambda _client, _data, mid, _reason, _properties: self._pubacks.add(mid)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, samples: list[Sample] | None = None) -> None:
        """One message; ``samples`` are what it holds.

        After an interruption what was on its way comes first, or paho would let it be overtaken.
        """
        if self._interrupted.is_set():
            wait_until(
                lambda: self._client.is_connected() and self._collect(), timeout_s=60, what="the broker to be back"
            )
            self._interrupted.clear()
        self._waiting.append((self._client.publish(topic, payload, qos=1).mid, samples or []))
        self._collect()

    def _collect(self) -> bool:
        """Note what was acknowledged so far; True when that is everything."""
        while self._waiting and self._waiting[0][0] in self._pubacks:
            mid, samples = self._waiting.popleft()
            self._pubacks.discard(mid)
            self.acked.update(samples)
        return not self._waiting

    def sample(self, serial: str, ts: int, seq: int, equipment_type: str = "soymilk", **values: Any) -> None:
        """One sample of one machine."""
        self.said.append((serial, ts, seq, values))
        body = orjson.dumps({"ts": ts, "boot": "b", "seq": seq, **values})
        self.publish(wire.up(equipment_type, serial, "telemetry"), body, [(serial, ts)])

    def flush(self, timeout_s: float = 60.0) -> None:
        """Wait for every PUBACK."""
        wait_until(self._collect, timeout_s=timeout_s, what="all PUBACKs")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def stored(influxdb: InfluxDB, bucket: str, equipment_type: str = "soymilk") -> Counter[Sample]:
    """Every (serial, ts) in a bucket by query, with the number of points that have it."""
    answer = influxdb.call("GET", f"/query?db={bucket}&epoch=ms&q=SELECT+*+FROM+{equipment_type}+GROUP+BY+*")
    found: Counter[Sample] = Counter()
    for series in answer["results"][0].get("series", ()):
        at = series["columns"].index("time")
        found.update((series["tags"]["serial"], row[at]) for row in series["values"])
    return found


def figures(address: str, labels: Mapping[str, str] | None = None) -> dict[str, float]:
    """Sums over all labels of what /metrics says now; only of what has ``labels``, where they are given."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if labels and not labels.items() <= sample.labels.items():
                continue
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def now_ms() -> int:
    """The wall clock."""
    return int(time.time() * 1000)
