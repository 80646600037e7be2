"""The fault proxy does to a connection what it says, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.fault_proxy import FaultProxy
from tests.servers import HOST, wait_until


class Echo:
    """Sends everything back; remembers the sizes of its reads, and how each connection ended."""

    def __init__(self) -> None:
        self.listener = socket.create_server((HOST, 0))
        self.reads: list[int] = []
        self.ends: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.reads.append(len(data))
                    connection.sendall(data)
                self.ends.append("FIN")
            except OSError:
                self.ends.append("RST")


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(HOST, echo.listener.getsockname()[1]) as proxy:
        yield proxy


def dial(proxy: FaultProxy) -> socket.socket:
    line = socket.create_connection((HOST, proxy.port), timeout=10)
    line.sendall(b"hello")
    assert exactly(line, 5) == b"hello"
    return line


def exactly(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += line.recv(size - len(data))
    return data


def test_left_alone_it_passes_everything_both_ways(proxy: FaultProxy) -> None:
    with dial(proxy) as line:
        sent = bytes(range(256)) * 2000
        sender = threading.Thread(target=line.sendall, args=(sent,))
        sender.start()
        assert exactly(line, len(sent)) == sent
        sender.join()
    wait_until(lambda: proxy.lines == 0, what="the end of the connection")
    assert proxy.accepted == 1


def test_latency_is_added_each_way_and_keeps_the_order(proxy: FaultProxy) -> None:
    with dial(proxy) as line:
        proxy.latency_s = 0.1
        began = time.monotonic()
        line.sendall(b"a")
        line.sendall(b"b")
        assert exactly(line, 2) == b"ab"
        assert time.monotonic() - began >= 0.2


def test_bytes_come_one_by_one(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy) as line:
        echo.reads.clear()
        proxy.piece_bytes = 1
        line.sendall(b"x" * 3000)
        assert exactly(line, 3000) == b"x" * 3000
        assert len(echo.reads) > 10, "the server got them in one piece"


def test_a_narrow_line_takes_its_time(proxy: FaultProxy) -> None:
    with dial(proxy) as line:
        proxy.bytes_per_s, proxy.piece_bytes = 10_000.0, 500
        began = time.monotonic()
        line.sendall(b"x" * 2000)
        exactly(line, 2000)
        assert time.monotonic() - began >= 0.2


def test_cut_is_a_farewell_on_both_sides(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy) as line:
        proxy.cut()
        assert line.recv(1) == b""
    wait_until(lambda: echo.ends == ["FIN"], what="the server's end")


def test_reset_is_none(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy) as line:
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            line.recv(1)
    wait_until(lambda: echo.ends == ["RST"], what="the server's end")


def test_a_black_hole_swallows_until_it_is_healed(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy) as line:
        proxy.swallow()
        line.sendall(b"late")
        line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.recv(1)
        assert echo.ends == []
        proxy.heal()
        line.settimeout(10)
        assert exactly(line, 4) == b"late"


def test_half_open_is_over_for_the_server_only(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy) as line:
        proxy.half_open()
        wait_until(lambda: echo.ends == ["FIN"], what="the server's end")
        line.sendall(b"into nothing")
        line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.recv(1)


def test_where_the_server_is_away_the_connection_ends_at_once() -> None:
    with FaultProxy(HOST, 9) as proxy, socket.create_connection((HOST, proxy.port), timeout=10) as line:
        assert line.recv(1) == b""
        assert proxy.lines == 0
