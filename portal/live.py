"""Live pages: server-sent events that say 'this changed', upon which the page fetches its block again.

One thread per process reads the journal and the marks of running test runs each second and wakes the streams. A stream
holds no database session; before each event it checks again that its reader is still logged in and may see the ticket.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import structlog
from fastapi.concurrency import run_in_threadpool

from domain.errors import BrewairError
from domain.store.queries import logins
from domain.store.queries import tickets as ticket_queries
from domain.store.session import Sessions

POLL_EVERY_S = 1.0
HEARTBEAT_S = 15.0

log = structlog.get_logger(__name__)


class Subscription:
    """One stream: what has changed since it last looked. Changes run together, so that a slow reader costs nothing."""

    def __init__(self, ticket_id: int | None) -> None:
        self.ticket_id = ticket_id
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._changed: set[int] = set()
        self._last_id = 0
        self.closed = False

    def notify(self, changed: set[int], last_id: int) -> None:
        """From the poller's thread: these tickets changed, the journal has reached ``last_id``."""
        mine = changed if self.ticket_id is None else changed & {self.ticket_id}
        if mine:
            self._in_loop(lambda: self._take(mine, last_id))

    def close(self) -> None:
        """From any thread: the portal stops."""
        self._in_loop(self._close)

    async def next_change(self, patience_s: float) -> tuple[set[int], int] | None:
        """Tickets changed and the journal id; None when nothing did within ``patience_s``."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), patience_s)
        self._woken.clear()
        if not self._changed:
            return None
        changed, self._changed = self._changed, set()
        return changed, self._last_id

    def _in_loop(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # its loop has ended, and the stream with it
            self._loop.call_soon_threadsafe(call)

    def _take(self, changed: set[int], last_id: int) -> None:
        self._changed |= changed
        self._last_id = last_id
        self._woken.set()

    def _close(self) -> None:
        self.closed = True
        self._woken.set()


class Live:
    """The poller of one process and its streams."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._subscriptions: set[Subscription] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def subscribe(self, ticket_id: int | None) -> Subscription:
        """A new stream, of one ticket or (None) of all."""
        subscription = Subscription(ticket_id)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def start(self) -> None:
        """Starts the poller, once; what is written after this returns is noticed. Raises UnavailableError."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                last_id = self.last_id()
                self._thread = threading.Thread(target=self._poll, args=(last_id,), name="live", daemon=True)
                self._thread.start()

    def unsubscribe(self, subscription: Subscription) -> None:
        """The stream ended."""
        with self._lock:
            self._subscriptions.discard(subscription)

    def last_id(self) -> int:
        """The newest journal id."""
        with self._sessions.read() as session:
            return ticket_queries.last_journal_id(session)

    def close(self) -> None:
        """Ends the poller and every stream; the process is stopping."""
        self._stop.set()
        for subscription in self._present():
            subscription.close()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _present(self) -> list[Subscription]:
        with self._lock:
            return list(self._subscriptions)

    def _poll(self, last_id: int) -> None:
        marks: dict[int, tuple[int, int, int]] = {}
        while True:
            try:
                with self._sessions.read() as session:
                    rows = ticket_queries.journal_after(session, last_id)
                    present = logins.run_marks(session)
            except BrewairError as error:
                log.warning("live pages wait for the database", error=str(error))
            else:
                last_id = rows[-1].id if rows else last_id
                changed = {row.ticket_id for row in rows if row.ticket_id is not None}
                changed |= {mark[0] for run_id, mark in present.items() if marks.get(run_id) != mark}
                marks = present
                if changed:
                    for subscription in self._present():
                        subscription.notify(changed, last_id)
            if self._stop.wait(POLL_EVERY_S):
                return


async def events(
    live: Live,
    subscription: Subscription,
    allowed: Callable[[], bool],
    since: int | None,
    heartbeat_s: float = HEARTBEAT_S,
) -> AsyncIterator[str]:
    """The lines of one stream, to its end. ``since`` is the journal id the reader had before it lost the connection."""
    try:
        await run_in_threadpool(live.start)
        yield "retry: 2000\n\n"
        if since is not None and since < await run_in_threadpool(live.last_id):
            yield _event(set(), since)
        while not subscription.closed:
            change = await subscription.next_change(heartbeat_s)
            if change is None:
                yield ": still here\n\n"
                continue
            if not await run_in_threadpool(allowed):
                yield "event: end\ndata: {}\n\n"
                return
            yield _event(*change)
    finally:
        live.unsubscribe(subscription)


def _event(changed: set[int], last_id: int) -> str:
    return f"id: {last_id}\nevent: change\ndata: {json.dumps({'tickets': sorted(changed)})}\n\n"
