"""An InfluxDB that answers writes as a test tells it to; with a real one behind it, everything else goes there."""

from __future__ import annotations

import gzip
import http.client
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

from tests.fault_proxy import HARD
from tests.servers import HOST, InfluxDB


class Answer(NamedTuple):
    """What a write gets.

    ``commit`` hands it to the real server first, whose answer is given where ``status`` is 0. The answer is sent after
    ``delay_s``, its body in single bytes where ``slow``; ``half`` of it where the connection is to be reset within it.
    """

    status: int
    headers: Mapping[str, str] = {}
    body: str = ""
    commit: bool = False
    delay_s: float = 0.0
    slow: bool = False
    half: bool = False


OK = Answer(204)
PASS = Answer(0, commit=True)
Script = Callable[[list[bytes]], Answer | None]
"""From the lines of a write to its answer; None resets the connection instead."""


class FakeInflux:
    """Every write is noted: its lines in ``writes``, when it came (monotonic seconds) in ``times``, its token in
    ``tokens``, how its body was compressed in ``encodings``.

    Without ``script`` a write is accepted: by the real server where there is one. The next ``cut_bodies`` writes are
    reset when half of them has been read.
    """

    def __init__(self, real: InfluxDB | None = None) -> None:
        self.real = real
        self.script: Script = lambda lines: PASS if real else OK
        self.writes: list[list[bytes]] = []
        self.times: list[float] = []
        self.tokens: list[str] = []
        self.encodings: list[str] = []
        self.cut_bodies = 0
        fake = self

        class Handler(_Handler):
            influx = fake

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    influx: FakeInflux

    def do_POST(self) -> None:
        influx, size = self.influx, int(self.headers.get("Content-Length") or 0)
        if not self.path.startswith("/api/v2/write"):
            self._pass_on(self.rfile.read(size))
            return
        if influx.cut_bodies:
            influx.cut_bodies -= 1
            self.rfile.read(size // 2)
            self._reset()
            return
        body = self.rfile.read(size)
        influx.encodings.append(self.headers.get("Content-Encoding", "identity"))
        lines = (gzip.decompress(body) if influx.encodings[-1] == "gzip" else body).split(b"\n")
        influx.times.append(time.monotonic())
        influx.writes.append(lines)
        influx.tokens.append(self.headers["Authorization"])
        answer = influx.script(lines)
        if answer is None:
            self._reset()
        else:
            self._answer(answer, body)

    def do_PATCH(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_GET(self) -> None:
        self._pass_on(b"")

    def _answer(self, answer: Answer, body: bytes) -> None:
        status, headers, text = answer.status, dict(answer.headers), answer.body.encode()
        if answer.commit:
            told = self._ask(body)
            if not answer.status:
                status, headers, text = told
        time.sleep(answer.delay_s)
        with suppress(OSError):  # who waited in vain has hung up
            self._say(status, headers, text, slow=answer.slow, half=answer.half)

    def _pass_on(self, body: bytes) -> None:
        self._say(*self._ask(body))

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """What the real server says."""
        real = self.influx.real
        if real is None:
            return 404, {}, b""
        line = http.client.HTTPConnection(real.host, real.port, timeout=30)
        try:
            wanted = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            line.request(self.command, self.path, body or None, wanted)
            answer = line.getresponse()
            kept = {
                name: value for name, value in answer.getheaders() if name.lower() in ("content-type", "retry-after")
            }
            return answer.status, kept, answer.read()
        except OSError as error:
            return 502, {}, str(error).encode()
        finally:
            line.close()

    def _say(
        self, status: int, headers: Mapping[str, str], text: bytes, *, slow: bool = False, half: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        for at in range(len(text)) if slow else ():
            self.wfile.write(text[at : at + 1])
            time.sleep(0.01)
        if half:
            self.wfile.write(text[: len(text) // 2])
            self._reset()
        elif not slow:
            self.wfile.write(text)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD)
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        return
