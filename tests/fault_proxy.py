"""A TCP relay that does to a connection what networks do: delay, split, throttle, cut, reset, swallow, forget one side."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.servers import HOST, free_port

CHUNK = 65_536
HARD = struct.pack("ii", 1, 0)
"""SO_LINGER that makes closing a reset."""


class _Line:
    """One connection: the client's side, the server's side, and what is under way between them."""

    def __init__(self, proxy: FaultProxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self._proxy = proxy
        for side in (client, server):
            side.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def carry(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        """Bytes of one direction until its end; what came first arrives first, ``latency_s`` later."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        delivery = asyncio.create_task(self._deliver(under_way, to))
        data = b"?"
        try:
            while data:
                try:
                    data = await reader.read(CHUNK)
                except OSError:
                    data = b""
                await under_way.put((self._proxy.time() + self._proxy.latency_s, data))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(self, under_way: asyncio.Queue[tuple[float, bytes]], to: asyncio.StreamWriter) -> None:
        proxy = self._proxy
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - proxy.time()))
            await proxy.passable()
            if not data:
                self.close(reset=False)
                return
            size = proxy.piece_bytes or len(data)
            for at in range(0, len(data), size):
                piece = data[at : at + size]
                # Even without a limit the loop must come round, or pieces would be joined again on their way.
                await asyncio.sleep(len(piece) / proxy.bytes_per_s if proxy.bytes_per_s else 0)
                await proxy.passable()
                try:
                    to.write(piece)
                    await to.drain()
                except OSError:
                    return

    def close(self, *, reset: bool) -> None:
        """End both sides: in order (FIN), or as if the peer had crashed (RST)."""
        for side in (self.client, self.server):
            if reset:
                with suppress(OSError):
                    side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD)
                side.transport.abort()
            else:
                side.close()


class FaultProxy:
    """Relays ``url`` to (host, port). ``latency_s``, ``piece_bytes`` and ``bytes_per_s`` (each way) may change at any
    time; the methods act on all connections there are."""

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self.latency_s = 0.0
        self.piece_bytes: int | None = None
        self.bytes_per_s: float | None = None
        self.accepted = 0
        self._target = (host, port)
        self._lines: set[_Line] = set()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")

    @property
    def url(self) -> str:
        """The relay's address as ``BREWAIR_MQTT_URL`` wants it."""
        return f"mqtt://{HOST}:{self.port}"

    @property
    def lines(self) -> int:
        """Connections that are open now."""
        return len(self._lines)

    def time(self) -> float:
        """The loop's clock, in seconds."""
        return self._loop.time()

    async def passable(self) -> None:
        """Returns while nothing is swallowed."""
        await self._open.wait()

    def cut(self) -> None:
        """Close every connection in order (FIN on both sides)."""
        self._each(lambda line: line.close(reset=False))

    def reset(self) -> None:
        """Reset every connection (RST on both sides)."""
        self._each(lambda line: line.close(reset=True))

    def half_open(self) -> None:
        """The server loses its side; the client hears nothing of it, and nothing at all until ``heal``."""
        self.swallow()
        self._each(lambda line: line.server.close())

    def swallow(self) -> None:
        """A black hole: connections stand, and can be made, but nothing passes until ``heal``."""
        self._now(self._open.clear)

    def heal(self) -> None:
        """Everything passes again; what was swallowed arrives late, as TCP sees to."""
        self._now(self._open.set)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            answers, server = await asyncio.open_connection(*self._target)
        except OSError:
            client.transport.abort()
            return
        line = _Line(self, client, server)
        self._lines.add(line)
        ways = [asyncio.create_task(line.carry(reader, server)), asyncio.create_task(line.carry(answers, client))]
        try:
            await asyncio.gather(*ways)
        finally:
            self._lines.discard(line)
            line.close(reset=False)

    def _each(self, act: Callable[[_Line], None]) -> None:
        def act_on_all() -> None:
            for line in list(self._lines):
                act(line)

        self._now(act_on_all)

    def _now(self, act: Callable[[], object]) -> None:
        """Do it on the loop, and return when it is done."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (act(), done.set()))
        assert done.wait(10)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, HOST, self.port)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def end() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
